"""A run in stages: where a head's sampler draws more groups as training goes on, each part has a program of its own.

How many groups a step trains is a shape, so that it changes from one part of a run to the next and not from step to
step. Which part a step belongs to is a matter of its number alone, and so a run goes on in the right one.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from mhe_jax.train.reporting import report, utilization


class Stage(NamedTuple):
    """A part of a run: the program of its steps, and the step that is the first behind it."""

    program: Any
    end: int

    def compiled(
        self, *arguments: Any, task: Any, batch: int, say: Callable[[str], object]
    ) -> tuple[float | None, Any]:
        """Compiles the program for such arguments.

        Args:
          *arguments: of the program.
          task: that is trained.
          batch: examples of a step.
          say: is told what memory a step takes.

        Returns:
          how long a step would take at the peak of a known device, and the analysis of its memory.

        Raises:
          ValueError: if it takes more than there is.
        """
        traced = self.program.trace(*arguments)
        memory = traced.lower().compile().memory_analysis()
        say(report.memory_line(memory))
        report.check_memory(memory, task, batch)
        return utilization.peak_step_seconds(traced.jaxpr, jax.sharding.get_abstract_mesh().size), memory


def tasks_of(task: Any) -> tuple[Any, ...]:
    """The task of each part of a run, see `heads.base.Head.stages`; the last one takes most."""
    heads = task.head.stages()
    return (task,) if len(heads) == 1 else tuple(dataclasses.replace(task, head=head) for head in heads)


def staged(task: Any, total_steps: int, program_of: Callable[[Any], Any]) -> tuple[Stage, ...]:
    """The parts of a run of `total_steps`, of equal length up to a step; `program_of(task)` makes their programs."""
    tasks = tasks_of(task)
    ends = (total_steps * number // len(tasks) for number in range(1, len(tasks) + 1))
    return tuple(Stage(program_of(task), end) for task, end in zip(tasks, ends, strict=True))


def current(stages: Sequence[Stage], step: int) -> Stage:
    """The part that the step after `step` others belongs to; the last one for all that follow."""
    return next((stage for stage in stages if step < stage.end), stages[-1])
