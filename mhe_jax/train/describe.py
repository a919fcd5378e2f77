"""What a config will cost, without reading data or running a step: label space, parameters, memory of each head."""

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.heads import HEADS
from mhe_jax.train import averages, experiment, report
from mhe_jax.train.mesh import CHUNK, check_batch, make_mesh
from mhe_jax.train.optim import build_optimizer
from mhe_jax.train.schedules import build_schedule
from mhe_jax.train.settings import Settings
from mhe_jax.train.state import abstract_state
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step


def describe(config: ConfigDict) -> str:
    """A text for people: the config's model, then every head on the same backbone, side by side.

    The step of each head is compiled for abstract arrays, so a model may be far larger than this machine.

    Raises:
      ValueError: for anything wrong with the config, and if it leaves the number of classes to the data.
    """
    settings = Settings.from_config(config)
    if not settings.data.num_classes:
        raise ValueError("describe reads no data: say how many classes there are with --config.data.num_classes")
    mesh = make_mesh(settings.mesh)
    check_batch(mesh, settings)
    space = experiment.label_space_of(settings.head, settings.data.num_classes)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        task, abstract, _ = _lower(settings, settings.head, mesh, compiled=False)
        text = [
            f"classes       {space.num_classes:,}",
            f"head          {settings.head.name}, head_sizes {space.head_sizes}: "
            f"{space.num_codes:,} codes, {space.num_codes - space.num_classes:,} of them padding",
            f"features      {task.head.features_dim}",
            f"mesh          data={mesh.shape['data']} x class={mesh.shape['class']}, {jax.devices()[0].device_kind}",
            f"batch         {_batch_shapes(settings)}, compute in {settings.dtype}",
            "",
            report.parameter_table(abstract.params),
            "",
            "Each head on this backbone; a train step's memory per device:",
            f"{'head':5} {'head_sizes':>20} {'head parameters':>16} "
            f"{'state + batch':>18} {'temporary':>18} {'total':>18}",
        ]
        for name in HEADS:
            section = settings.head if name == settings.head.name else _sibling(name, space.head_sizes, settings.head)
            task, abstract, memory = _lower(settings, section, mesh, compiled=True)
            parts = report.memory_bytes(memory)
            cells = [parts["arguments"], parts["temporary"] + parts["outputs"], sum(parts.values())]
            sizes = "x".join(map(str, task.head.label_space.head_sizes))
            text.append(
                f"{name:5} {sizes:>20} {report.parameter_count(abstract.params['head']):>16,} "
                + " ".join(f"{report.megabytes(cell):>18}" for cell in cells)
                + (" <- this config" if name == settings.head.name else "")
            )
    return "\n".join(text)


def _batch_shapes(settings: Settings) -> str:
    batch = build_data(settings.data).abstract_batch(settings.global_batch_size)
    return ", ".join(f"{name} {'x'.join(map(str, leaf.shape))}" for name, leaf in batch.items() if name != "weight")


def _sibling(name: str, head_sizes: tuple[int, ...], described: ConfigDict) -> ConfigDict:
    """Another head at its defaults, with the same digits where both have several, and the margin if there is one."""
    keep = name != "ohe" and len(head_sizes) > 1
    margin = {"margin": described.margin} if "margin" in described else {}
    return ConfigDict({"name": name, "head_sizes": head_sizes if keep else (), **margin})


def _lower(settings: Settings, head: ConfigDict, mesh, compiled: bool):
    data = build_data(settings.data)
    task = experiment.build_task(settings, head, data, settings.data.num_classes, mesh)
    schedule = build_schedule(settings.schedule, total_steps=1, steps_per_epoch=1)
    sparse = task.head.sparse_tables()
    table_section = settings.table_optimizer if sparse else None
    optimizer = build_optimizer(
        settings.optimizer, schedule, settings.clip_norm, table_section, sparse, settings.clip_parts
    )
    rule = averages.build_average(settings.average, steps_per_epoch=1)
    abstract = abstract_state(task, optimizer, rule, mesh)
    if not compiled:
        return task, abstract, None
    sharding = jax.NamedSharding(mesh, CHUNK)
    chunk = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype, sharding=sharding),
        data.abstract_batch(settings.global_batch_size),
    )
    options = StepOptions(
        accumulate_steps=settings.accumulate_steps,
        log_every_steps=settings.log_every_steps,
        dropout_off_after_step=settings.dropout_off_after_step,
    )
    step = make_train_step(task, optimizer, rule, options)
    program = compile_train_program(step, lambda resident, piece: piece, 1, abstract)
    count = jax.ShapeDtypeStruct((), np.int32)
    return task, abstract, program.lower(abstract, {}, chunk, count).compile().memory_analysis()
