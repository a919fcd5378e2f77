"""What a config will cost, without reading data or running a step: label space, parameters, memory of each head."""

import jax
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.heads import HEADS, digits_of
from mhe_jax.settings import Settings
from mhe_jax.train import left_to_data
from mhe_jax.train.parallel.collectives import bytes_sent
from mhe_jax.train.parallel.mesh import check_batch, make_mesh
from mhe_jax.train.reporting import report
from mhe_jax.train.reporting.abstract_step import build_model, compile_step


def describe(config: ConfigDict) -> str:
    """A text for people: the config's model, then every head on the same backbone, side by side.

    The step of each head is compiled for abstract arrays, so a model may be far larger than this machine.

    Raises:
      ValueError: for anything wrong with the config, and if it leaves to the data how many classes there are, the
        channels of the pictures or the size of a batch.
    """
    settings = Settings.from_config(config)
    open_fields = ["data.num_classes"] * (not settings.data.num_classes)
    open_fields += [path for path in left_to_data.left(config) if path != "data.augmentation"]  # which has no size
    if open_fields:
        raise ValueError(f"describe reads no data: say --config.{', --config.'.join(open_fields)}")
    mesh = make_mesh(settings.mesh)
    check_batch(mesh, settings)
    space = digits_of(settings.head.name, settings.head.get("head_sizes", ()), settings.data.num_classes)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        model = build_model(settings, settings.head, mesh)
        text = [
            f"classes       {space.num_classes:,}",
            f"head          {settings.head.name}, head_sizes {space.head_sizes}: "
            f"{space.num_codes:,} codes, {space.num_codes - space.num_classes:,} of them padding",
            f"features      {model.task.head.features_dim}",
            f"mesh          data={mesh.shape['data']} x class={mesh.shape['class']}, {jax.devices()[0].device_kind}",
            f"batch         {_batch_shapes(settings)}, compute in {settings.dtype}",
            "",
            report.parameter_table(model.state.params),
            "",
            "Each head on this backbone; a train step's memory per device, and what a device sends to others:",
            f"{'head':5} {'head_sizes':>20} {'head parameters':>16} "
            f"{'state + batch':>18} {'temporary':>18} {'total':>18} {'sent':>14}",
        ]
        for name in HEADS:
            section = settings.head if name == settings.head.name else _sibling(name, space.head_sizes, settings.head)
            model = build_model(settings, section, mesh)
            compiled = compile_step(settings, model, mesh)
            parts = report.memory_bytes(compiled.memory_analysis())
            cells = [parts["arguments"], parts["temporary"] + parts["outputs"], sum(parts.values())]
            sent = bytes_sent(compiled, mesh)
            sizes = "x".join(map(str, model.task.head.label_space.head_sizes))
            text.append(
                f"{name:5} {sizes:>20} {report.parameter_count(model.state.params['head']):>16,} "
                + " ".join(f"{report.megabytes(cell):>18}" for cell in cells)
                + f" {report.megabytes(sent):>14}"
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
