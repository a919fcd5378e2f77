"""What heads on a backbone take of a device, from their compiled programs."""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.settings import Settings
from mhe_jax.targets.target import Target
from mhe_jax.train import left_to_data
from mhe_jax.train.parallel.mesh import check_batch, make_mesh
from mhe_jax.train.reporting import programs, report
from mhe_jax.train.reporting.programs import Cost
from mhe_jax.train.step import dispatch_length


@dataclasses.dataclass(frozen=True)
class HeadCost:
    """One head on a backbone, and what its programs take.

    lengths: of texts, by length, the train and the evaluation program; `train` and `evaluation` are of the longest.
    next_batches: bytes of a device for the data of the next dispatch, which is sent while one runs.
    """

    head: str
    head_sizes: tuple[int, ...]
    head_parameters: int
    train: Cost
    evaluation: Cost
    next_batches: int
    lengths: dict[int, tuple[Cost, Cost]] = dataclasses.field(default_factory=dict)

    def fits(self, memory: int) -> bool:
        """Whether a device with so many bytes can hold a run; never where the compiler made no program."""
        return not (self.train.refused or self.evaluation.refused) and self.peak <= memory

    @property
    def peak(self) -> int:
        """The most that a device holds at once in a run: the state stays where it is while the model is evaluated."""
        return max(self.train.total + self.next_batches, self.train.arguments + self.evaluation.temporaries)


def checked(config: ConfigDict, target: Target | None = None) -> tuple[Settings, Mesh]:
    """The settings of a config that says all that a description needs, and the mesh. Raises as `describe`."""
    settings = Settings.from_config(config)
    open_fields = ["data.num_classes"] * (not settings.data.num_classes)
    open_fields += [path for path in left_to_data.left(config) if path != "data.augmentation"]  # which has no size
    if open_fields:
        raise ValueError(f"describe reads no data: say --config.{', --config.'.join(open_fields)}")
    mesh = make_mesh(settings.mesh, target.devices if target else ())
    check_batch(mesh, settings)
    return settings, mesh


def measure(models: Sequence[tuple[Settings, ConfigDict, Mesh]], with_lengths: str = "") -> list[HeadCost]:
    """What models cost, each given as settings, section of a head and mesh; all lengths of texts of `with_lengths`."""
    with _pool() as pool:
        futures = [pool.submit(_head_cost, *model, model[1].name == with_lengths) for model in models]
        return [future.result() for future in futures]


def attempted(models: Sequence[tuple[Settings, ConfigDict, Mesh]]) -> list[HeadCost | ValueError]:
    """As `measure`; in place of a model that cannot be built or trained so, why."""

    def cost(model: tuple[Settings, ConfigDict, Mesh]) -> HeadCost | ValueError:
        try:
            return _head_cost(*model, False)
        except ValueError as error:
            return error

    with _pool() as pool:
        return list(pool.map(cost, models))


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(os.cpu_count() or 1, 4))  # XLA compiles outside of the interpreter's lock


@contextlib.contextmanager
def ambient(settings: Settings, mesh: Mesh) -> Iterator[None]:
    """The context of all that is traced for a config, in this thread."""
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        yield


def _head_cost(settings: Settings, section: ConfigDict, mesh: Mesh, all_lengths: bool) -> HeadCost:
    data = build_data(settings.data)
    with ambient(settings, mesh):
        model = programs.build_model(settings, section, mesh)
        streamed = isinstance(data, ImageData) and data.streamed
        steps = dispatch_length(settings.steps_per_dispatch, mesh.devices.flat[0].platform, streamed)

        def evaluation_cost(length: int) -> Cost:
            with ambient(settings, mesh):
                program = functools.partial(programs.compile_evaluation, settings, model, mesh, length=length)
                return programs.cost(program, mesh)

        def costs(length: int) -> tuple[Cost, Cost]:
            with ThreadPoolExecutor(1) as beside:
                evaluation = beside.submit(evaluation_cost, length)
                train = functools.partial(programs.compile_train, settings, model, mesh, steps=steps, length=length)
                return programs.cost(train, mesh), evaluation.result()

        train, evaluation = costs(0)
        shorter = programs.lengths(settings)[:-1] if all_lengths else ()
        by_length = {length: costs(length) for length in shorter}
        if all_lengths and (lengths := programs.lengths(settings)):
            by_length[lengths[-1]] = train, evaluation
    batch = data.abstract_batch(settings.global_batch_size)
    row_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in batch.values())
    return HeadCost(
        head=section.name,
        head_sizes=model.task.head.label_space.head_sizes,
        head_parameters=report.parameter_count(model.state.params["head"]),
        train=train,
        evaluation=evaluation,
        next_batches=steps * row_bytes // mesh.size,
        lengths=by_length,
    )
