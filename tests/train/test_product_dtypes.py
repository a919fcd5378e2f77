"""With dtype bfloat16 a train step multiplies bfloat16: counted in what is traced of every shipped config.

A product with one float32 operand is a float32 product on all hardware. Nothing is compiled here.
"""

import re

import jax
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from mhe_jax.data.build import build_data
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.settings import Settings
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting.programs import build_model
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step
from tests.test_configs import FILES, load

SCALING = [f"{pipeline},{head}" for pipeline in ("images", "texts", "faces") for head in ("ohe", "mhp", "mhc", "mhs")]
SCALING += ["texts,mhc,sparse", "texts,mhs,sparse", "faces,partial"]
ARGUMENTS = {"scaling": SCALING, "imagenet_ohe": ["", "vit_s16", "convnext_t"]}
ENCODER = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "vocab_size": 1000}
# Where a step of bfloat16 multiplies float32 all the same, as patterns of `where`.
ALLOWED = (
    # The published face networks compute so what comes behind their blocks.
    r"IResNet\)+/fc",
    r"MobileFaceNet\)+/(last/conv|embedding)",
    # The mean score of all classes, which label smoothing needs: a number for each digit, once.
    r"kronecker\.py:\d+ mean_score",
    # Where the pixels of a turned picture come from: two numbers each.
    r"augment\.py:\d+ _warp ",
)


def small(path, arg):
    """A config with dtype bfloat16 and few classes, examples and layers: only shapes and repetitions are others."""
    config = load(path, arg)
    config.dtype, config.global_batch_size, config.accumulate_steps = "bfloat16", 16, 1
    with config.unlocked():
        config.head.head_sizes = ()
        if config.backbone.name == "pretrained":
            # Neither a tokenizer nor an encoder is fetched: texts are of random tokens, the encoder of random weights.
            config.data = load(path.with_name("scaling.py"), "texts").data
            kept = {name: config.backbone[name] for name in ("pooling", "feature_dropout")}
            config.backbone = {"name": "bert", "max_positions": 512, **ENCODER, **kept}
        if config.backbone.name == "iresnet":
            config.backbone.depth = 18
        config.data.num_classes = 101
        if "features_dim" in config.data:
            config.data.features_dim = 24
    return config


def cases():
    """Configs and arguments that differ in backbone, head, or how tables are updated."""
    found = {}
    for path in FILES:
        for arg in ARGUMENTS.get(path.stem, [""]):
            config = small(path, arg)
            parts = [config[name].to_json(sort_keys=True) for name in ("backbone", "head", "table_optimizer")]
            found.setdefault((path.stem.split("_")[0], *parts), pytest.param(path, arg, id=f"{path.stem}:{arg}"))
    return list(found.values())


def products(jaxpr):
    """The equations of all matrix products and convolutions, inside of loops and calls too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr))
        for value in inner:
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from products(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def traced_step(config):
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh):
        model = build_model(settings, settings.head, mesh)
        step = make_train_step(model.task, model.optimizer, model.average_rule, StepOptions())
        batch = build_data(settings.data).abstract_batch(settings.global_batch_size)
        chunk = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), batch)
        program = compile_train_program(step, lambda resident, piece: piece, 1, model.state)
        return program.trace(model.state, {}, chunk, jax.ShapeDtypeStruct((), np.int32)).jaxpr.jaxpr


@pytest.mark.parametrize(("path", "arg"), cases())
def test_products_of_a_step_are_narrow(path, arg):
    config = small(path, arg)
    found = list(products(traced_step(config)))
    narrow = [one for one in found if all(operand.aval.dtype == "bfloat16" for operand in one.invars)]
    assert len(narrow) > 2
    wide = [one for one in found if one not in narrow and not re.search("|".join(ALLOWED), where(one))]
    assert not wide, [f"{where(one)}: {[operand.aval.str_short() for operand in one.invars]}" for one in wide]


@pytest.mark.parametrize("name", ["bert", "modernbert"])
@pytest.mark.parametrize("with_words", [False, True])
def test_those_of_an_encoder_are_narrow_whatever_stands_beside_it(name, with_words, tmp_path):
    config = small(FILES[0].with_name("scaling.py"), "texts,ohe")
    network = {"name": name, "pooling": "mean", **ENCODER}
    with config.unlocked():
        config.backbone = network
        if with_words:
            train_word_pieces(iter(["words"]), 64).save_pretrained(str(tmp_path))
            network["vocab_size"] = 0
            sizes = {"features_dim": 24, "num_classes": 101, "max_length": 16, "max_row_features": 8}
            config.data = {"name": "xmc_words", "path": "nowhere", "tokenizer": str(tmp_path), **sizes}
            bag = {"name": "bag", "features_dim": 8}
            config.backbone = {"name": "side_by_side", "network": network, "bag": bag, "part_length": 2.0}
        else:
            config.data.max_length = 256  # beyond the window of local layers
    found = list(products(traced_step(config)))
    narrow = [one for one in found if all(operand.aval.dtype == "bfloat16" for operand in one.invars)]
    assert len(narrow) > 20
    assert [where(one) for one in found if one not in narrow] == []


def where(equation):
    """The line of this package that made an equation, its function, and the module it belongs to."""
    frames = [frame for frame in equation.source_info.traceback.frames if "/mhe_jax/" in frame.file_name]
    line = f"{frames[0].file_name}:{frames[0].line_num} {frames[0].function_name}" if frames else ""
    return f"{line} {equation.source_info.name_stack}"
