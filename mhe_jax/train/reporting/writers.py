"""What a run writes: metrics.jsonl, what its trackers take, lines or a bar on the terminal, and curves.png."""

import contextlib
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import tqdm

from mhe_jax.train.reporting import stored


class Tracker(Protocol):
    """What takes the metrics of one run besides metrics.jsonl, see `mhe_jax.train.reporting.trackers`."""

    def add(self, step: int, values: dict[str, float]) -> None:
        """Metrics by name, such as `train/loss`, after `step` steps; they may be NaN."""

    def close(self) -> None:
        """Nothing comes after it."""


class Writer:
    """Metrics of one run. Only one process of a run may hold a writer that is `active`."""

    def __init__(
        self,
        workdir: pathlib.Path,
        start_step: int,
        total_steps: int,
        active: bool = True,
        trackers: Sequence[Tracker] = (),
    ):
        """Events after `start_step` in an existing file belong to steps that will be run again: they are dropped.

        The trackers get what is written, and are closed with the writer.
        """
        self._active = active
        if not active:
            return
        self._path = workdir / "metrics.jsonl"
        kept = [event for event in read_events(self._path) if event["step"] <= start_step]
        write_atomically(self._path, "".join(json.dumps(event) + "\n" for event in kept))
        self._file = self._path.open("a", buffering=1)
        self._trackers = trackers
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
        with naming(self._path):
            self._file.write(json.dumps(finite(event)) + "\n")
        for tracker in self._trackers:
            tracker.add(step, {f"{split}/{name}": value for name, value in values.items()})
        # The norms are many, and for the files.
        shown = "  ".join(f"{name} {value:.6g}" for name, value in values.items() if "/" not in name)
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
            with naming(self._path):
                self._file.close()
            for tracker in self._trackers:
                tracker.close()


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
    with naming(path):
        try:
            temporary.write_text(text)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """A full disk's errors do not say which file they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def plot_curves(workdir: pathlib.Path) -> None:
    """Draws curves.png from metrics.jsonl: the losses on the left, accuracies or precisions on the right."""
    from matplotlib.figure import Figure

    events = read_events(workdir / "metrics.jsonl")
    figure = Figure(figsize=(10, 4))
    # Stated, as Matplotlib would draw twice to find them.
    margins = {"left": 0.08, "right": 0.98, "bottom": 0.13, "top": 0.96, "wspace": 0.18}
    left, right = figure.subplots(1, 2, gridspec_kw=margins)
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
