"""A run behind the server while its folder changes."""

import asyncio
import errno
import time

import numpy as np
import pytest

from mhe_jax.evaluation.calibration import Calibration
from mhe_jax.export.program import open_run
from mhe_jax.inference.decision import Decision, model_of
from mhe_jax.inference.run import Run
from mhe_jax.serving import served as module
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.served import Served
from mhe_jax.train.experiment import usable_config
from tests.serving.conftest import OPTIONS


@pytest.fixture
def served(workdirs):
    found = Served("features", workdirs["features"], OPTIONS, Metrics())
    found.open()
    yield found
    asyncio.run(found.close())
    (workdirs["features"] / "decision.safetensors").unlink(missing_ok=True)


def decide(workdir, temperature):
    """Writes a decision for a run, of the best class."""
    trained = open_run(usable_config(workdir), workdir)
    model = model_of(workdir, trained.step, trained.classes)
    groups = np.zeros(trained.classes.number, np.int32)
    Decision(Calibration("temperature", temperature), np.zeros(1), groups, True, len(groups), model, {}).save(workdir)


def test_a_disk_that_fails_for_a_while_is_looked_at_again(served, monkeypatch):
    real = module.signature

    def fails(workdir):
        raise OSError(errno.ESTALE, "Stale file handle", str(workdir))

    async def looks():
        monkeypatch.setattr(module, "signature", fails)
        assert not await served.reload()
        assert "Stale file handle" in served.stale
        monkeypatch.setattr(module, "signature", real)
        assert not await served.reload()
        assert served.stale is None

    asyncio.run(looks())


def test_answers_are_decided_by_the_run_that_ranked_them_and_a_new_decision_is_seen(served):
    decide(served.workdir, 0.25)
    row, real = np.linspace(-1, 1, served.run.input_shape[0]), served._predictions._compute

    async def ask():
        [[best]] = await served.predict([row.tolist()], decide=True)
        return best

    def slow(items):
        found = real(items)
        time.sleep(3)
        return found

    async def reloads():
        await served.reload()
        old = await ask()
        await asyncio.to_thread(decide, served.workdir, 4.0)
        served._predictions._compute = slow
        asked = asyncio.create_task(ask())
        await asyncio.sleep(0.5)
        before = served.run
        await served.reload()
        assert served.run is not before
        assert not asked.done()
        served._predictions._compute = real
        assert await asked == old
        assert (await ask()).score < old.score

    asyncio.run(reloads())


def test_no_request_makes_a_list_of_all_classes(served, monkeypatch):
    for name in ("classes", "class_states"):
        monkeypatch.setattr(Run, name, property(lambda run: pytest.fail("made")))
    assert served.info().num_classes == 11
    asyncio.run(served.neighbours(3))
    asyncio.run(served.reload())
    served._loaded(module._contract(served.run))
