"""What a run writes: metrics.jsonl, TensorBoard events, lines or a bar on the terminal, and curves.png."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import tqdm

from mhe_jax.train.reporting import stored


class Writer:
    """Metrics of one run. Only one process of a run may hold a writer that is `active`."""

    def __init__(self, workdir: pathlib.Path, start_step: int, total_steps: int, active: bool = True):
        """Events after `start_step` in an existing file belong to steps that will be run again: they are dropped."""
        self._active = active
        if not active:
            return
        self._path = workdir / "metrics.jsonl"
        kept = [event for event in read_events(self._path) if event["step"] <= start_step]
        write_atomically(self._path, "".join(json.dumps(event) + "\n" for event in kept))
        self._file = self._path.open("a", buffering=1)
        self._board = _Board(workdir / "tensorboard", purge_step=start_step + 1)
        self._bar = tqdm.tqdm(total=total_steps, initial=start_step, unit="step", disable=not sys.stderr.isatty())

    def write(self, split: str, step: int, epoch: float, values: dict[str, float]) -> None:
        """One flat event. `values` holds `loss` if it is known, further metrics by name, and rates.

        Raises:
          OSError: naming the file, if the disk is full.
        """
        if not self._active:
            return
        values = {name: value for name, value in values.items() if name != "step"}
        event = {"step": step, "epoch": round(epoch, 4), "split": split, **values}
        with _naming(self._path):
            self._file.write(json.dumps(finite(event)) + "\n")
        self._board.add(step, {f"{split}/{name}": value for name, value in values.items()})
        shown = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
        if not self._bar.disable:
            self._bar.update(step - self._bar.n)
        self.say(f"step {step:6d}  epoch {epoch:7.2f}  {split:5s}  {shown}")

    def say(self, text: str) -> None:
        """A line for people, kept off the progress bar."""
        if self._active:
            say(text)

    def close(self) -> None:
        if self._active:
            self._bar.close()
            with _naming(self._path):
                self._file.close()
            self._board.close()


class _Board:
    """Events for TensorBoard, written by whoever adds them.

    tensorboardX's SummaryWriter leaves that to a thread, which a full disk ends: the run then waits for it forever.
    """

    _FLUSH_SECONDS = 10.0

    def __init__(self, folder: pathlib.Path, purge_step: int):
        """TensorBoard shall forget the events of earlier files from `purge_step` on."""
        self._folder, self._flushed = folder, 0.0
        with _naming(folder):
            folder.mkdir(exist_ok=True)
            self._events, self._protocol = _tensorboard(str(folder / "events"))
            start = self._protocol.SessionLog(status=self._protocol.SessionLog.START)
            self._events.write_event(self._protocol.Event(wall_time=time.time(), step=purge_step, session_log=start))

    def add(self, step: int, values: dict[str, float]) -> None:
        event = self._protocol.Event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=value)
        with _naming(self._folder):
            self._events.write_event(event)
            if time.monotonic() > self._flushed + self._FLUSH_SECONDS:
                self._events.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        with _naming(self._folder):
            self._events.close()


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


def say(text: str) -> None:
    """A line for people, from any thread, kept off the progress bar."""
    tqdm.tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def read_events(path: pathlib.Path) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl; none if it does not exist. A last line cut short by a crash is left out.

    Raises:
      ValueError: naming the file and the line, if another line is no event.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = stored.parsed(line, f"{path}:{number}")
        except ValueError:
            if number < len(lines):
                raise
            break
        if not isinstance(event, dict) or type(event.get("step")) is not int or "split" not in event:
            raise ValueError(
                f"{path}:{number} holds {stored.kind(event)} that is no event, {{'step': ..., 'split': ...}}"
            )
        events.append(event)
    return events


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Replaces a file at once, so that a crash or a full disk leaves the old or the new one.

    Raises:
      OSError: naming the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    with _naming(path):
        try:
            temporary.write_text(text)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """A full disk's errors do not say which file they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def plot_curves(workdir: pathlib.Path) -> None:
    """Draws curves.png from metrics.jsonl: the losses on the left, accuracies or precisions on the right."""
    from matplotlib.figure import Figure

    events = read_events(workdir / "metrics.jsonl")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in ("train", "eval"):
        points = [(e["step"], e["loss"]) for e in events if e["split"] == split and e.get("loss") is not None]
        if points:
            left.plot(*zip(*points, strict=True), label=split, marker="." if split == "eval" else "")
    evaluations = [e for e in events if e["split"] == "eval"]
    is_accuracy = lambda name: name.startswith(("top", "P@")) or name.endswith("accuracy")
    for name in sorted({key for e in evaluations for key in e if is_accuracy(key)}):
        points = [(e["step"], 100 * e[name]) for e in evaluations if e.get(name) is not None]
        if points:
            right.plot(*zip(*points, strict=True), label=f"{name}, best {max(y for _, y in points):.2f} %", marker=".")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.set(xlabel="step", ylabel="accuracy on the evaluation split, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(workdir / "curves.png", dpi=120)


def finite(value: Any) -> Any:
    """The same for JSON, which has no NaN: in dicts and lists too, a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
