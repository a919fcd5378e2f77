"""StableHLO by `jax.export`: a program that JAX runs without this package, on CPUs, NVIDIA's GPUs and TPUs."""

import pathlib

import jax
from jax import export

from mhe_jax.export import output, programs
from mhe_jax.export.program import Program
from mhe_jax.inference.opened import Trained

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")
# https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
COMPATIBILITY = (
    "jax.export promises that an artifact is compiled and run by a JAX and a jaxlib that were built up to 6 months "
    "after the exporting ones (backward compatibility), or up to 3 weeks before (forward compatibility); see "
    "https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees"
)


def write(trained: Trained, program: Program, folder: pathlib.Path) -> float:
    """Writes the program with its weights inside, and its manifest; returns the largest difference to JAX."""

    def run(inputs):
        return program.apply(program.weights, inputs)

    with jax.default_matmul_precision(program.precision):
        exported = export.export(jax.jit(run), platforms=PLATFORMS)(program.abstract_inputs())
    content = exported.serialize()
    difference = programs.check(program, export.deserialize(content).call, "StableHLO")
    (folder / FILE).write_bytes(content)
    output.write_beside(folder, trained)
    facts = {
        **programs.signature(program),
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "compatibility": COMPATIBILITY,
        "difference_to_jax": difference,
    }
    output.write_manifest(folder, "stablehlo", trained, facts)
    return difference
