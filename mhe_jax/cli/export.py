"""`mhe export --workdir=RUN --format=onnx --output=DIR [--top_k=5]`: a trained run as a file for others.

  stablehlo    a program by jax.export, for whatever has JAX: CPUs, NVIDIA's GPUs, TPUs
  onnx         a program for onnxruntime and its kin; needs `pip install 'mhe-jax[onnx]'`
  safetensors  weights, config, classes, codes, what reads texts and a card, as `mhe push` writes them
  torch        a state dict with the published PyTorch models' names, for the backbones that these have

The programs take what people have, uint8 pictures, tokens, features, any number at a time, and give the ids of the best
classes and their probabilities; of a run on faces, embeddings. docs/export.md shows a consumer for each.
"""

import pathlib
import time

from absl import app, flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A trained run.")
    flags.DEFINE_string("format", None, "stablehlo, onnx, safetensors or torch.")
    flags.DEFINE_string("output", None, "The folder to write: new, empty, or of an earlier export.")
    flags.DEFINE_integer("top_k", 5, "Classes of each answer of a program; fewer where there are fewer.")
    flags.DEFINE_string(
        "table_dtype",
        "",
        "int8 or float8_e4m3fn: the classifier's table in a program, with a scale for each row; the change is told.",
    )
    for name in ("workdir", "format", "output"):
        flags.mark_flag_as_required(name)
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    from mhe_jax.export.formats import export
    from mhe_jax.inference import hub
    from mhe_jax.train import experiment

    started, workdir = time.monotonic(), hub.located(FLAGS.workdir)
    config = experiment.usable_config(workdir)
    output, top_k = pathlib.Path(FLAGS.output), program.top_k(workdir)
    said = export(config, workdir, FLAGS.format, output, top_k, FLAGS.table_dtype)
    print(f"{said}, {time.monotonic() - started:.0f} s")
