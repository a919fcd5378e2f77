"""What a run writes: metrics.jsonl, TensorBoard events, lines or a bar on the terminal, and curves.png."""

import json
import math
import pathlib
import sys
from typing import Any

import tqdm
from tensorboardX import SummaryWriter


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
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)
        self._bar = tqdm.tqdm(total=total_steps, initial=start_step, unit="step", disable=not sys.stderr.isatty())

    def write(self, split: str, step: int, epoch: float, values: dict[str, float]) -> None:
        """One flat event. `values` holds `loss` if it is known, further metrics by name, and rates."""
        if not self._active:
            return
        values = {name: value for name, value in values.items() if name != "step"}
        event = {"step": step, "epoch": round(epoch, 4), "split": split, **values}
        # JSON has no NaN: what was not measured is null.
        self._file.write(json.dumps({k: v if _finite(v) else None for k, v in event.items()}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)
        shown = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
        if not self._bar.disable:
            self._bar.update(step - self._bar.n)
        self.say(f"step {step:6d}  epoch {epoch:7.2f}  {split:5s}  {shown}")

    def say(self, text: str) -> None:
        """A line for people, kept off the progress bar."""
        if self._active:
            tqdm.tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        if self._active:
            self._file.close()
            self._board.close()
            self._bar.close()


def read_events(path: pathlib.Path) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl; none if it does not exist. A last line cut short by a crash is left out.

    Raises:
      ValueError: naming the file and the line, if another line is not JSON.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number} is not JSON: {error}") from None
    return events


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Replaces a file at once, so that a crash leaves the old or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


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
        right.plot(*zip(*points, strict=True), label=f"{name}, best {max(y for _, y in points):.2f} %", marker=".")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.set(xlabel="step", ylabel="accuracy on the evaluation split, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(workdir / "curves.png", dpi=120)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
