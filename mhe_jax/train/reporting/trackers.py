"""Where a run's metrics go besides metrics.jsonl: TensorBoard's files, Weights & Biases, MLflow."""

import contextlib
import functools
import importlib.util
import json
import math
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import Tracker, naming, say, write_atomically
from mhe_jax.train.sections import flat


class TensorBoard:
    """Events for TensorBoard in `tensorboard/` of the workdir, written by whoever adds them.

    tensorboardX's SummaryWriter leaves that to a thread, which a full disk ends: the run then waits for it forever.
    """

    _FLUSH_SECONDS = 10.0

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, start_step: int):
        """TensorBoard shall forget the events of earlier files after `start_step`."""
        self._folder, self._flushed = workdir / "tensorboard", 0.0
        with naming(self._folder):
            self._folder.mkdir(exist_ok=True)
            self._events, self._protocol = _tensorboard(str(self._folder / "events"))
            start = self._protocol.SessionLog(status=self._protocol.SessionLog.START)
            event = self._protocol.Event(wall_time=time.time(), step=start_step + 1, session_log=start)
            self._events.write_event(event)

    def add(self, step: int, values: dict[str, float]) -> None:
        event = self._protocol.Event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=value)
        with naming(self._folder):
            self._events.write_event(event)
            if time.monotonic() > self._flushed + self._FLUSH_SECONDS:
                self._events.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        with naming(self._folder):
            self._events.close()


class WeightsAndBiases:
    """A run of Weights & Biases, in `wandb/` of the workdir; WANDB_PROJECT, WANDB_MODE and the like say more."""

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, start_step: int):
        """Goes on with the run that this workdir has there. Steps that are run again keep their first metrics."""
        import wandb

        known = _remembered(workdir)
        self._run = wandb.init(
            dir=workdir,
            name=_name(workdir),
            config=config.to_dict(),
            id=known.get("wandb"),
            resume="allow" if "wandb" in known else None,
        )
        _remember(workdir, {**known, "wandb": self._run.id})

    def add(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say; else where `mlflow ui` looks."""

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, start_step: int):
        """Goes on with the run that this workdir has there. Steps that are run again have their metrics twice."""
        import mlflow

        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        known = _remembered(workdir)
        if "mlflow" in known:
            self._id = known["mlflow"]
            self._client.update_run(self._id, status="RUNNING")
            return
        name = mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or "Default"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._id = self._client.create_run(number, run_name=_name(workdir)).info.run_id
        for path, value in flat(config).items():
            self._client.log_param(self._id, path, value)
        _remember(workdir, {**known, "mlflow": self._id})

    def add(self, step: int, values: dict[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [
            # P@5 has a character that names must not have there.
            self._metric(re.sub(r"[^\w\-. :/]", "_at_", name), value, now, step)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self._client.log_batch(self._id, metrics)

    def close(self) -> None:
        self._client.set_terminated(self._id)


# workdir, config, start_step -> Tracker.
Factory = Callable[[pathlib.Path, ConfigDict, int], Tracker]
TRACKERS: dict[str, Factory] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
# Of those that need a package of their name.
PACKAGES = ("wandb", "mlflow")


def check(names: tuple[str, ...]) -> None:
    """Raises ValueError if a name of `config.trackers` is unknown, or its package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"config.trackers names {name!r}; there are {', '.join(TRACKERS)}")
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise ValueError(f"config.trackers names {name!r}, whose package is not installed: pip install {name}")


def start(names: tuple[str, ...], workdir: pathlib.Path, config: ConfigDict, start_step: int) -> list[Tracker]:
    """The trackers of a run that goes on after `start_step`. Those of other makers end by themselves where they fail.

    Raises:
      OSError: if TensorBoard's files cannot be written.
    """
    made: list[Tracker] = []
    for name in dict.fromkeys(names):
        make = functools.partial(TRACKERS[name], workdir, config, start_step)
        made.append(make() if TRACKERS[name] is TensorBoard else _Guarded(name, make))
    return made


class _Guarded:
    """A tracker without which a run goes on: after its first error, which is told, it gets nothing more."""

    def __init__(self, name: str, make: Callable[[], Tracker]):
        self._name = name
        self._tracker: Tracker | None = None
        with self._excused():
            self._tracker = make()

    def add(self, step: int, values: dict[str, float]) -> None:
        with self._excused():
            if self._tracker is not None:
                self._tracker.add(step, values)

    def close(self) -> None:
        with self._excused():
            if self._tracker is not None:
                self._tracker.close()

    @contextlib.contextmanager
    def _excused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tracker = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            say(f"warning: {self._name} (config.trackers) failed, and gets no more of this run: {reason}")


def _remembered(workdir: pathlib.Path) -> dict[str, str]:
    """By tracker, the name that it has given to the run in `workdir`."""
    path = workdir / "trackers.json"
    return stored.read_object(path) if path.exists() else {}


def _remember(workdir: pathlib.Path, names: dict[str, str]) -> None:
    write_atomically(workdir / "trackers.json", json.dumps(names, indent=2) + "\n")


def _name(workdir: pathlib.Path) -> str:
    """The last two folders: with the default workdir, the config and the time."""
    return "/".join(workdir.resolve().parts[-2:])


def _tensorboard(prefix: str) -> tuple[Any, Any]:
    """tensorboardX's writer of event files, and its protocol buffers of events.

    Where PyTorch is installed, tensorboardX imports it for the tensors that one might log: seconds and 200 MB that
    a run does not need. So it does not find it.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
    finally:
        if hidden:
            del sys.modules["torch"]
    return EventsWriter(prefix), event_pb2
