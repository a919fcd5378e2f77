"""Batches that a run leaves out because the loss was not finite on them, and where the others then fall."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

from mhe_jax.settings import Settings
from mhe_jax.train.checkpoints import complete
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import stored, writers
from mhe_jax.train.reporting.meter import NonFiniteLossError

# A step that fails with this many different batches does not fail because of them.
_MOST_AT_A_STEP = 3
_PAIRS = ("steps", "batches")  # of a failure


@dataclasses.dataclass
class Skips:
    """The batches left out so far. Step s trains on batch `position(s)` of the order, s itself without any skips.

    Every range begins after the checkpoint that the run went back to, so that a step has the same batch whichever way
    the run comes to it: through the fault and back, from that checkpoint, or from an earlier one.

    Attributes:
      failures: ({'steps': (first, last), counted from 1, 'batches': (first, end), counted from 0}, ...), as they came.
    """

    failures: tuple[dict, ...] = ()

    @classmethod
    def read(cls, workdir: pathlib.Path) -> "Skips":
        """Of a run with checkpoints; another starts at step 0 and finds its own.

        Raises:
          ValueError: if the file is damaged.
        """
        path = workdir / "skipped.json"
        if not path.exists() or not complete.steps(workdir):
            return cls()
        try:
            failures = stored.parsed(path.read_bytes(), path.name)
            return cls(tuple({name: _pair(failure[name]) for name in _PAIRS} for failure in failures))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged: {type(error).__name__}: {error}; without the file the run finds the batches again"
            ) from None

    def refresh(self, workdir: pathlib.Path) -> None:
        """Takes over, in every process, what the main one reads of a run with checkpoints; it has to hold the lock.

        Without checkpoints they stay. Raises like `read`.
        """
        found = Skips.read(workdir) if complete.steps(workdir) else self
        numbers = [number for failure in found.failures for pair in _PAIRS for number in failure[pair]]
        fours = zip(*[iter(distributed.of_main(numbers))] * 4, strict=True)
        self.failures = tuple(dict(zip(_PAIRS, (four[:2], four[2:]), strict=True)) for four in fours)

    def write(self, workdir: pathlib.Path) -> None:
        """Writes them down; none leave no file, and remove that of an earlier run."""
        if not self.failures:
            (workdir / "skipped.json").unlink(missing_ok=True)
            return
        writers.write_atomically(workdir / "skipped.json", json.dumps(self.failures, indent=2) + "\n")

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(first, end) of the batches left out: ascending, apart from each other."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted(failure["batches"] for failure in self.failures):
            if merged and first <= merged[-1][1]:
                first, end = merged[-1][0], max(end, merged.pop()[1])
            merged.append((first, end))
        return merged

    def position(self, step: int) -> int:
        """The batch that step `step`, counted from 0, trains on."""
        for first, end in self.ranges:
            if step >= first:
                step += end - first
        return step

    def consecutive(self, step: int) -> int | None:
        """How many steps from `step` train on batches that follow each other; None: all."""
        position = self.position(step)
        return next((first - position for first, _ in self.ranges if first > position), None)

    def without(self, error: NonFiniteLossError) -> "Skips":
        """The skips when the batches of the steps that `error` names are left out too.

        Raises:
          NonFiniteLossError: if these steps have failed with several other batches already.
        """
        first, last = error.first, error.last
        before = [f for f in self.failures if f["steps"][0] <= last and f["steps"][1] >= first]
        if len(before) + 1 >= _MOST_AT_A_STEP:
            raise NonFiniteLossError(
                f"{error}, with {len(before) + 1} different ranges of batches by now: it is not the data; "
                "lower config.schedule.learning_rate or set config.clip = {'name': 'norm', 'norm': 1.0}",
                first,
                last,
            ) from error
        batches = self.position(first - 1), self.position(last - 1) + 1
        return Skips((*self.failures, {"steps": (first, last), "batches": batches}))


def with_rollback(train: Callable[..., dict], workdir: pathlib.Path, settings: Settings, started: float) -> dict:
    """`train(skips=..., program_started=...)`, again from the last checkpoint where a loss is not finite."""
    skips = Skips()
    while True:
        try:
            return train(skips=skips, program_started=started)
        except NonFiniteLossError as error:
            if settings.on_non_finite == "stop":
                raise
            skips, message = skips.without(error), f"{error}: back to the last checkpoint, and on without these batches"
        # What is left of the attempt went with the exception; the next one resumes as after a restart.
        if distributed.is_main():
            writers.say(message)
            skips.write(workdir)
        started = time.monotonic()


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    if type(first) is not int or type(second) is not int:
        raise TypeError(f"{values} are not two whole numbers")
    return first, second
