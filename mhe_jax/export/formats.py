"""`mhe export`: a run in one of the formats."""

import pathlib

from ml_collections import ConfigDict

from mhe_jax.export import folder as folders
from mhe_jax.export import onnx_model, output, stablehlo, torch_state
from mhe_jax.export.program import open_run, program_of
from mhe_jax.export.tables import agreement

FORMATS = ("stablehlo", "onnx", "safetensors", "torch")


def export(
    config: ConfigDict, workdir: pathlib.Path, kind: str, folder: pathlib.Path, top_k: int = 5, table_dtype: str = ""
) -> str:
    """Writes a run to a folder.

    Args:
      config: of the run, see `mhe_jax.train.experiment.usable_config`.
      workdir: the run.
      kind: one of `FORMATS`.
      folder: new, empty, or of an earlier export.
      top_k: classes of each answer of the programs, stablehlo and onnx.
      table_dtype: of the classifier's table in a program, see `mhe_jax.export.tables`; empty: as it is.

    Returns:
      a line on what was written.

    Raises:
      ValueError: for another format, a folder that holds other files, a run without weights, or one that the format
        cannot hold.
    """
    if kind not in FORMATS:
        raise ValueError(f"--format={kind}: it must be one of {', '.join(FORMATS)}")
    is_program = kind in ("stablehlo", "onnx")
    if table_dtype and (not is_program or (kind, table_dtype) == ("onnx", "float8_e4m3fn")):
        raise ValueError(
            f"--table_dtype={table_dtype} is of --format=stablehlo; onnx takes int8, and {kind} is as it is"
        )
    trained = open_run(config, workdir)
    program = program_of(trained, top_k, kind == "onnx", table_dtype) if is_program else None
    said = ""
    with output.claimed(folder, workdir) as made:
        if program is not None:
            write = onnx_model.write if kind == "onnx" else stablehlo.write
            said = f", at most {write(trained, program, made):.1e} from JAX"
        elif kind == "torch":
            torch_state.write(trained, made)
        else:
            folders.write(trained, made)
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    if table_dtype:
        share, examples, source = agreement(trained, table_dtype)
        said += f", the best class is that of the whole table in {share:.2%} of {examples:,} examples ({source})"
    return f"{folder}: {kind}, {trained.classes.number:,} classes, {size / 2**20:.1f} MiB{said}"
