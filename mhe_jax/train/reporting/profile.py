"""A trace of some steps of a run, to be looked at with XProf."""

import pathlib
import re
from typing import Any

import jax

# The first and the last step of a trace, counted from 1.
Steps = tuple[int, int]


def parse_steps(text: str) -> Steps:
    """'100:109' as (100, 109); raises ValueError for anything else."""
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(
            f"--profile_steps is {text!r}; it must be FIRST:LAST, two steps counted from 1, such as 100:109"
        )
    return int(found[1]), int(found[2])


class Profile:
    """Traces the dispatches of the given steps, which are cut so that these steps are in them and no others."""

    def __init__(self, steps: Steps | None, total_steps: int, folder: pathlib.Path, active: bool = True):
        """Without `steps` nothing is traced. Of several processes, all make the cuts, and one is `active`.

        Raises:
          ValueError: if the run has no such steps.
        """
        if steps and steps[1] > total_steps:
            raise ValueError(f"--profile_steps is {steps[0]}:{steps[1]}, but the run has {total_steps} steps")
        self._first, self._last = steps or (1, 0)
        self._folder, self._active, self._running = folder, active, False

    @property
    def cuts(self) -> tuple[int, ...]:
        """The numbers of steps after which a dispatch has to end."""
        return (self._first - 1, self._last)

    def starts(self, step: int) -> bool:
        """Whether the dispatch that follows `step` is the first of the trace; a resumed run may start among them."""
        return self._active and not self._running and self._first <= step + 1 <= self._last

    def start(self, state: Any) -> None:
        """Begins the trace once `state` is there: what made it is not in the trace."""
        jax.block_until_ready(state)
        jax.profiler.start_trace(self._folder)
        self._running = True

    def ends(self, step: int) -> bool:
        """Whether the dispatch that ended with `step` was the last of the trace."""
        return self._running and step >= self._last

    def close(self) -> None:
        """Writes what was traced so far: all of it, or what there is of it where a run ends early."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
