"""With dtype bfloat16 a train step multiplies bfloat16: counted in what is traced of every shipped config.

A product with one float32 operand is a float32 product on all hardware. Nothing is compiled here.
"""

import jax
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from mhe_jax.data import build_data
from mhe_jax.settings import Settings
from mhe_jax.train.parallel.mesh import CHUNK, make_mesh
from mhe_jax.train.reporting.abstract_step import build_model
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step
from tests.test_configs import FILES, load

SCALING = [f"{pipeline},{head}" for pipeline in ("images", "texts", "faces") for head in ("ohe", "mhp", "mhc", "mhs")]
CASES = [
    pytest.param(path, arg, id=f"{path.stem}:{arg}".rstrip(":"))
    for path in FILES
    for arg in ([*SCALING, "faces,partial", "texts,mhc,sparse"] if path.stem == "scaling" else [""])
]
# Where a float32 product is meant: the function that makes it, and why.
ALLOWED = {
}


def small(path, arg):
    """A config of a few classes and examples with dtype bfloat16, for eight devices."""
    config = load(path, arg)
    config.dtype, config.global_batch_size = "bfloat16", 16
    return config


def products(jaxpr):
    """(equation, source line) of all matrix products and convolutions, inside of loops and calls too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
            if isinstance(value, ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from products(value)


def traced_step(config):
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh):
        model = build_model(settings, settings.head, mesh)
        options = StepOptions(accumulate_steps=settings.accumulate_steps)
        step = make_train_step(model.task, model.optimizer, model.average_rule, options)
        batch = build_data(settings.data).abstract_batch(settings.global_batch_size)
        sharding = jax.NamedSharding(mesh, CHUNK)
        chunk = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype, sharding=sharding), batch
        )
        program = compile_train_program(step, lambda resident, piece: piece, 1, model.state)
        return program.trace(model.state, {}, chunk, jax.ShapeDtypeStruct((), np.int32)).jaxpr.jaxpr


@pytest.mark.parametrize(("path", "arg"), CASES)
def test_products_of_a_step_are_narrow(path, arg):
    found = list(products(traced_step(small(path, arg))))
    assert any(all(operand.aval.dtype == "bfloat16" for operand in equation.invars) for equation in found)
    wide = [equation for equation in found if any(operand.aval.dtype == "float32" for operand in equation.invars)]
    for equation in wide:
        print(equation.primitive, [v.aval.str_short() for v in equation.invars], equation.outvars[0].aval.str_short(), [str(f) for f in equation.source_info.traceback.frames if "mhe_jax" in f.file_name][:1], str(equation.source_info.name_stack))
    assert not wide
