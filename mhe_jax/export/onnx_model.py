"""An ONNX model, checked in onnxruntime against JAX before it is left behind."""

import pathlib

from mhe_jax.export import output, programs
from mhe_jax.export.onnx.convert import model_of
from mhe_jax.export.program import Program
from mhe_jax.inference.opened import Trained

FILE, WEIGHTS = "model.onnx", "model.onnx.data"
_MOST_INSIDE = 2**30  # bytes; Protocol Buffers hold less than 2 GiB


def write(trained: Trained, program: Program, folder: pathlib.Path) -> float:
    """Writes model.onnx, with large weights in a file beside it, and its manifest.

    Returns:
      the largest difference to JAX.

    Raises:
      ValueError: for an operation that there is no rule for, or if the answers differ; without the extra `onnx`.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise ValueError("--format=onnx needs onnx and onnxruntime: pip install 'mhe-jax[onnx]'") from None
    try:
        model = model_of(program.apply, program.weights, program.abstract_inputs())
    except NotImplementedError as error:
        raise ValueError(f"this run has no ONNX form: {error} is not translated; --format=stablehlo has it") from None
    apart = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _MOST_INSIDE
    path = folder / FILE
    onnx.save(model, path, save_as_external_data=apart, location=WEIGHTS if apart else None)
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    call = lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
    difference = programs.check(program, call, "ONNX")
    output.write_beside(folder, trained)
    facts = {
        **programs.signature(program),
        "opset": model.opset_import[0].version,
        "nodes": len(model.graph.node),
        "difference_to_jax": difference,
    }
    output.write_manifest(folder, "onnx", trained, facts)
    return difference
