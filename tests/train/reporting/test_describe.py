"""What a config costs, in words and as data, on devices that are here; tests/targets has others."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mhe_jax.recipes.files import load_config
from mhe_jax.settings import Settings
from mhe_jax.targets.target import Target
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting import advise, description, programs, remedies
from mhe_jax.train.reporting.describe import describe
from tests.field_runs import with_fields
from tests.tiny_text_config import get_config as tiny_text


def scaling(arg, **fields):
    config = load_config(f"configs/scaling.py:{arg}")
    fields = {"data.num_classes": 4001, "global_batch_size": 64, "steps_per_dispatch": 1, **fields}
    return with_fields(config, fields)


@pytest.fixture(scope="module")
def texts():
    config = tiny_text()
    config.steps_per_dispatch = 1
    return describe(config)


def test_the_data_are_those_of_the_text(texts):
    data = json.loads(json.dumps(description.as_data(texts)))
    assert [one["head"] for one in data["heads"]] == ["ohe", "mhp", "mhc", "mhs"]
    assert data["mesh"] == {"data": jax.device_count(), "class": 1}
    (own,) = (one for one in data["heads"] if one["head"] == data["config_head"])
    text = description.as_text(texts)
    for size in (own["train"]["arguments"], own["train"]["temporaries"], own["evaluation"]["temporaries"], own["peak"]):
        assert f"{size / 2**20:,.1f}" in text
    assert own["peak"] >= own["train"]["arguments"] + own["train"]["temporaries"]
    assert own["train"]["sent"] == sum(own["train"]["sent_by_axis"].values()) > 0


def test_every_length_of_texts_has_its_programs(texts):
    (own,) = (one for one in texts.heads if one.head == texts.chosen)
    lengths = list(own.lengths)
    assert lengths == sorted(lengths)
    assert len(lengths) > 1
    assert own.lengths[lengths[-1]] == (own.train, own.evaluation)
    assert own.lengths[lengths[0]][0].temporaries < own.train.temporaries


def test_what_does_not_fit_gets_the_settings_that_were_tried():
    small = Target("a small device", 2**22, tuple(jax.devices()))
    found = describe(scaling("images,ohe", **{"optimizer.nesterov": True}), small, siblings=False)
    assert [one.head for one in found.heads] == ["ohe"]
    flags = [flag for flag, _ in found.remedies]
    plain = "--config.optimizer.momentum=0.0 --config.optimizer.nesterov=False"
    assert plain in flags
    assert "--config.dtype=bfloat16" in flags
    assert any("--config.table_optimizer.updates=owned" in flag for flag in flags)
    text = description.as_text(found)
    assert "does not fit" in text
    assert "ohe with other settings" in text
    without = dict(found.remedies)[plain]
    (own,) = (one for one in found.heads if one.head == "ohe")
    assert without.train.arguments < own.train.arguments


def test_what_fits_gets_no_advice():
    large = Target("a large device", 2**40, tuple(jax.devices()))
    assert not describe(scaling("images,mhp"), large, siblings=False).remedies


@pytest.mark.parametrize(
    ("arg", "classes", "best", "fields"),
    [
        ("images", 4001, "ohe", {"optimizer.nesterov": True}),
        ("images", 100_003, "mhp", {}),
        # Which rules out `partial` with a momentum.
        ("faces", 4001, "ohe", {"accumulate_steps": 2}),
    ],
)
def test_advice_takes_the_most_accurate_head_that_fits(arg, classes, best, fields):
    limit = 17 * 2**19
    advice = advise.advise(scaling(arg, **{"data.num_classes": classes, **fields}), None, limit)
    assert advice.best is not None
    assert advice.best.head == best
    assert advice.best.cost.peak <= limit
    text = advise.as_text(advice)
    *_, whose, command = text.splitlines()
    assert whose.startswith(f"Compiled on the asked network, which may not be that of {advice.best.shipped};")
    assert command.startswith(f"mhe train --config={advice.best.shipped} --config.data.path=DATA")


ONE = Target("one device", 2**22, tuple(jax.devices()[:1]))


def features(**fields):
    fields = {"data.num_classes": 4001, "data.features_dim": 4096, "global_batch_size": 8, **fields}
    return with_fields(load_config("features_mhc"), fields)


def test_a_warm_up_is_described_too():
    (line,) = (fact for fact in describe(features(), ONE, siblings=False).facts if fact.startswith("warm-up"))
    assert "2 epochs with a one-hot head, 25" in line
    assert line.endswith("MiB at the peak, which does not fit; what follows is of the phase after it")


def test_the_advised_command_is_one_that_its_config_takes_and_that_fits():
    sgd = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
    advice = advise.advise(features(optimizer=sgd), ONE, 40 * 2**20)
    text = advise.as_text(advice)
    assert advice.best.shipped == "features_mhc"
    assert text.splitlines()[-1].endswith("--config.codes.name=pretrained")
    assert "trains a one-hot head, which does not fit" in text
    plain = dataclasses.replace(advice.best, changes={"optimizer.momentum": 0.0, "optimizer.nesterov": False})
    flags, why = advise._for_shipped(plain)
    assert flags == "--config.codes.name=pretrained"
    assert "trains by adamw" in why[0]


def test_remedies_go_on_from_what_the_config_has():
    changes = list(remedies._changes(Settings.from_config(scaling("images,mhp", accumulate_steps=2)), 1))
    assert [one["accumulate_steps"] for one in changes if "accumulate_steps" in one] == [8, 32]


def test_what_is_not_possible_is_left_out_and_an_error_if_nothing_else_is_there(monkeypatch):
    monkeypatch.setattr(advise, "attempted", lambda models: [ValueError("a batch of one picture")] * len(models))
    with pytest.raises(ValueError, match="a batch of one picture"):
        advise.advise(scaling("images"), None, 2**40)
    small = Target("a small device", 2**22, tuple(jax.devices()))
    monkeypatch.setattr(remedies, "attempted", lambda models: [ValueError("a batch of one picture")] * len(models))
    assert remedies.tried(scaling("images"), small) == []
    with pytest.raises(ValueError, match="config.optimizer.name is 'sdg'"):
        advise.advise(scaling("images", **{"optimizer.name": "sdg"}), None, 2**40)


def test_nothing_fits_a_device_without_memory():
    advice = advise.advise(scaling("images"), None, 2**10)
    assert advice.best is None
    assert advise.as_text(advice).endswith("None fits: more devices, a smaller batch, or config.accumulate_steps.")


@pytest.mark.parametrize(
    ("arg", "section", "message"),
    [
        ("images,ohe", {"name": "sgd", "updates": "ownd"}, "updates is 'ownd'"),
        ("images,ohe", {"name": "none", "storage": "bfloat16"}, "with the name 'none' config.optimizer trains"),
        ("images,mhp", {"name": "sgd", "updates": "owned"}, "this head's loss moves no table"),
        ("images,ohe", {"name": "sgd"}, "this head has no table of which a step touches only a part"),
    ],
)
def test_a_table_optimizer_is_described_as_it_would_be_trained(arg, section, message):
    with pytest.raises(ValueError, match=message):
        describe(scaling(arg, table_optimizer=section), siblings=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"accumulate_steps": 2},
        {"clip": {"name": "norm", "norm": 1.0}},
        {"optimizer.no_decay": ("bias",)},
        {"optimizer": {"name": "lamb"}},
    ],
)
def test_owned_tables_are_proposed_where_they_train_as_the_config_does(fields):
    whole = Settings.from_config(scaling("images,ohe", **{"optimizer.weight_decay": 1e-4}))
    same, alone = remedies.owned_tables(whole)
    common = {"name": "sgd", "updates": "owned", "storage": "bfloat16", "weight_decay": 1e-4}
    of = lambda found: {path.removeprefix("table_optimizer."): value for path, value in found.items()}
    assert of(same) == {**common, "moments": "bfloat16", "momentum": 0.9, "rate": 1.0}
    assert of(alone) == {**common, "rate": 10.0}
    assert remedies.owned_tables(Settings.from_config(scaling("images,ohe", **fields))) == []
    faster = remedies.owned_tables(Settings.from_config(scaling("images,ohe", **{"optimizer.head_rate": 5.0})))
    assert [one["table_optimizer.rate"] for one in faster] == [5.0, 50.0]


def test_the_rule_of_an_owned_table_is_that_of_the_optimizer():
    for said in ({}, {"weight_decay": 0.1, "b1": 0.8}):
        config = scaling("images,ohe", optimizer={"name": "adamw", **said})
        (found,) = remedies.owned_tables(Settings.from_config(config))
        assert {found[f"table_optimizer.{name}"] for name in ("name", "storage", "moments")} == {"adamw", "bfloat16"}
        as_built = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.01, **said}
        assert {name: found[f"table_optimizer.{name}"] for name in as_built} == as_built
    plain = Settings.from_config(scaling("images,ohe", **{"optimizer.momentum": 0.0}))
    assert [one["table_optimizer.rate"] for one in remedies.owned_tables(plain)] == [1.0]


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (1.50K) exceeds "
        "available HBM (1.00K).",
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 1.50K of "
        "1.00K hbm. Exceeded hbm capacity by 512.",
    ],
)
def test_what_a_compiler_says_that_it_would_need_is_read(message):
    """As libtpu words it; tests/targets has its compiler say the first."""

    class Refusing:
        def lower(self, *arguments):
            return self

        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError(message)

    mesh = make_mesh(scaling("images").mesh)
    whole = jax.ShapeDtypeStruct((100,), np.float32, sharding=jax.NamedSharding(mesh, jax.P()))
    cost = programs.cost(lambda: programs._compiled(Refusing(), (whole,), mesh), mesh)
    assert (cost.arguments, cost.temporaries, cost.all_sent, cost.refused) == (400, 1536 - 400, None, True)
