"""Every field of every section, set to another value, changes the run, is an error that names it, or is free.

A run is what `tests.digest` sees of it. A field that nothing reads leaves all of that as it is, and fails here.
"""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data import DATA
from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.recipes import heads
from mhe_jax.settings import Settings
from mhe_jax.train import sections
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.digest import Run

Make = Callable[[], ConfigDict]

# ---- Small runs that use each entry of each registry.


def pictures(**fields) -> ConfigDict:
    config = tiny_config.get_config()
    config.data.num_examples = 104
    return _with(config, fields)


def texts(**fields) -> ConfigDict:
    return _with(tiny_text_config.get_config(), fields)


def faces(**fields) -> ConfigDict:
    config = tiny_face_config.get_config()
    config.data.num_examples = 104
    return _with(config, fields)


def _with(config: ConfigDict, fields: dict) -> ConfigDict:
    config.unlock()
    for path, value in fields.items():
        *outer, name = path.replace("__", ".").split(".")
        section = config
        for step in outer:
            section = section[step]
        section[name] = value
    return config


CASCADE = {"num_candidates": 4, "hidden_dim": 8}
ENCODER = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8}
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "feature_dropout": 0.1}

# By `section:entry`, a run that uses the entry; its fields are those that are changed.
RUNS: dict[str, Make] = {
    "head:ohe": lambda: pictures(head=heads.ohe()),
    "head:mhp": lambda: pictures(),
    "head:mhc": lambda: pictures(head=heads.mhc((4, 5))),
    "head:mhs": lambda: pictures(head=heads.mhs((5, 4), num_groups=2)),
    "head:ohe of texts": lambda: texts(head=heads.xmc_ohe()),
    "head:mhp of texts": lambda: texts(head=heads.xmc_mhp((8, 7), rank=2)),
    "head:mhc of texts": lambda: texts(head={**heads.xmc_mhc((11, 5)), **CASCADE}),
    "head:mhs of texts": lambda: texts(head=heads.xmc_mhs((11, 5))),
    "head:ohe of faces": lambda: faces(),
    "head:mhp of faces": lambda: faces(head=heads.face_mhp((4, 5))),
    "head:mhc of faces": lambda: faces(head=heads.face_mhc((4, 5))),
    "head:mhs of faces": lambda: faces(head=heads.face_mhs((5, 4))),
    **{
        f"head.margin:{name}": lambda name=name: faces(head={**heads.face_ohe(), "margin": heads.margin(name)})
        for name in ("none", "arcface", "cosface", "combined", "curricularface", "magface", "adaface")
    },
    "optimizer:sgd": lambda: pictures(),
    "optimizer:adamw": lambda: pictures(optimizer={"name": "adamw"}),
    "schedule:cosine": lambda: pictures(schedule={"name": "cosine", "learning_rate": 0.1}),
    "schedule:poly": lambda: pictures(schedule={"name": "poly", "learning_rate": 0.1}),
    "schedule:steps": lambda: pictures(schedule={"name": "steps", "learning_rate": 0.1, "milestones": (0.5,)}),
    "schedule:constant": lambda: pictures(),
    "average:none": lambda: pictures(),
    "average:ema": lambda: pictures(average={"name": "ema"}),
    "average:swa": lambda: pictures(average={"name": "swa", "start_epoch": 0, "every_steps": 2}),
    "table_optimizer:none": lambda: texts(),
    "table_optimizer:sgd": lambda: texts(table_optimizer={"name": "sgd"}),
    "table_optimizer:adagrad": lambda: texts(table_optimizer={"name": "adagrad"}),
    "table_optimizer:adamw": lambda: texts(table_optimizer={"name": "adamw"}),
    "clip:none": lambda: pictures(),
    "clip:norm": lambda: pictures(clip={"name": "norm", "norm": 1.0}),
    "backbone:convnet": lambda: pictures(),
    "backbone:resnet": lambda: pictures(backbone={"name": "resnet", "depth": 18}),
    "backbone:resnet_cifar": lambda: pictures(backbone={"name": "resnet_cifar", "depth": 18}),
    "backbone:iresnet": lambda: faces(backbone={"name": "iresnet", "depth": 18, "features_dim": 8}),
    "backbone:mobilefacenet": lambda: faces(backbone={"name": "mobilefacenet", "features_dim": 8, "scale": 1}),
    "backbone:face_vit": lambda: faces(
        backbone={"name": "face_vit", "features_dim": 8, "patch_size": 4, "width": 8, "depth": 2, "num_heads": 2}
    ),
    "backbone:bert": lambda: texts(backbone={"name": "bert", "vocab_size": 97, **ENCODER, **DROPOUT}),
    "backbone:xlnet": lambda: texts(backbone={"name": "xlnet", "vocab_size": 97, **ENCODER, **DROPOUT}),
    "data:synthetic": lambda: pictures(),
    "data:glyphs": lambda: pictures(
        data={"name": "glyphs", "num_classes": 0, "image_size": 16}, head=heads.mhp(), total_steps=2
    ),
    "data:face_synthetic": lambda: faces(),
    "data:face_glyphs": lambda: faces(
        data={"name": "face_glyphs", "num_classes": 0, "image_size": 16, "num_pairs": 20}, total_steps=2
    ),
    "data:synthetic_text": lambda: texts(),
}

# Another value for a field: by `section:entry.field`, else by its name, else one next to it.
OTHERS: dict[str, Any] = {
    "accumulate_steps": 2,
    "activation": "relu",
    "augmentation": 0.25,
    "b1": 0.8,
    "b2": 0.95,
    "beam_width": 2,
    "beyond": "none",
    "block_size": 8,
    "bn_groups": 2,
    "bucket_lengths": (4, 8),
    "clip:norm.parts": ("head",),
    "depth": 34,
    "dtype": "bfloat16",
    "eval_faces": ("DejaVuSans-Bold",),
    "face_vit.depth": 3,
    "global_batch_size": 16,
    "head_sizes": (10, 6),
    "image_shape": (8, 8, 2),
    "init_from": "nowhere.pth",
    "init_parts": ("backbone",),
    "last_batch": "keep",
    "lengths": (5, 12),
    "matmul_precision": "highest",
    "max_length": 18,
    "max_labels": 2,
    "milestones": (0.25,),
    "momentum": 0.5,
    "no_decay": ("bias",),
    "num_candidates": 3,
    "num_heads": 1,
    "objective": "softmax_concat",
    "objective of faces": "bce_per_head",
    "pooling": "last",
    "reduction": "mean",
    "sampler": "batch_union",
    "text_rule": "reference",
    "tokenizer": "nowhere",
    "warmup_epochs": 1.0,
    "widths": (8, 8),
}

# What has to be set for a field to matter.
WITH: dict[str, dict[str, Any]] = {
    "total_epochs": {"total_steps": 0, "total_epochs": 2.0},
    "head:mhp.num_candidates": {"head.rank": 2},
    "optimizer:sgd.nesterov": {"optimizer.momentum": 0.9},
    "schedule:cosine.per_epoch": {"total_steps": 9},
}

# Not from the config, or a section of its own.
GIVEN = {
    "head": ("label_space", "features_dim", "class_shards", "dtype", "margin"),
    "backbone": ("dtype",),
    "optimizer": ("learning_rate",),
    "schedule": ("total_steps", "steps_per_epoch"),
    "average": ("steps_per_epoch",),
}


def fields_of(run: str) -> Iterator[tuple[str, Any]]:
    """Path and default of each field of the entry that a run is there for."""
    path, _, entry = run.partition(":")
    config = RUNS[run]()
    constructor = sections.registries(config.data.name)[path][entry.split()[0]]
    if path == "head":
        yield "head.head_sizes", ()
    for field, default in registry.options(constructor, GIVEN.get(path, ())).items():
        yield f"{path}.{field}", default


CASES = [(run, path, default) for run in RUNS for path, default in fields_of(run)]
TOP = [
    (family, field.name, field.default)
    for family, field in itertools.product(("head:mhp", "head:mhc of texts"), dataclasses.fields(Settings))
    # The others are sections.
    if field.default is not dataclasses.MISSING or field.metadata["free"]
]
# The part of a run that a section changes, to be looked at first.
FIRST = {
    "data": "data",
    "backbone": "step",
    "head": "step",
    "optimizer": "update",
    "clip": "update",
    "average": "update",
    "schedule": "schedule",
}


@functools.cache
def unchanged(run: str, needs: str) -> Run:
    """The run with what some of its fields need."""
    return Run(_with(RUNS[run](), WITH.get(needs, {})))


def outcome(run: str, path: str, default: Any) -> str:
    """What becomes of a run whose field has another value: 'free', 'error', 'changed' or 'nothing'."""
    section, _, name = path.rpartition(".")
    needs = next((key for key in (f"{run}.{name}", path) if key in WITH), "")
    config = _with(RUNS[run](), WITH.get(needs, {}))
    if sections.is_free(path, config.data.name):
        return "free"
    value = sections.flat(config).get(path, default)
    entry, _, kind = run.partition(":")[2].partition(" of ")
    keys = (f"{run}.{name}", f"{entry}.{name}", f"{name} of {kind}", name)
    other = next((OTHERS[key] for key in keys if key in OTHERS), None)
    other = _next(value) if other is None else other
    assert other != value, f"{path}: no other value is known"
    first = FIRST.get(section.partition(".")[0], "order")
    try:
        before, after = unchanged(run, needs), Run(_with(config, {path: other}))
        for part in sorted(Run.PARTS, key=lambda part: part != first):
            if before.part(part) != after.part(part):
                return "changed"
    except ValueError as error:
        if name not in str(error):
            raise
        return "error"
    return "nothing"


def _next(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2 + 0.125
    raise ValueError(f"OTHERS needs another value than {value!r}")


@pytest.mark.parametrize(("run", "path", "default"), CASES, ids=[f"{run}-{path}" for run, path, _ in CASES])
def test_a_field_of_a_section_is_read_or_free_or_an_error(run, path, default):
    default = None if default is inspect.Parameter.empty else default
    assert outcome(run, path, default) != "nothing"


@pytest.mark.parametrize(("run", "path", "default"), TOP, ids=[f"{run}-{path}" for run, path, _ in TOP])
def test_a_top_level_field_is_read_or_free_or_an_error(run, path, default):
    assert outcome(run, path, default) != "nothing"


def test_a_field_that_nothing_reads_is_found(monkeypatch):
    """A data set with a field that is declared and never used."""

    @dataclasses.dataclass(kw_only=True)
    class Careless(Synthetic):
        brightness: float = 0.5

    monkeypatch.setitem(DATA, "careless", Careless)
    monkeypatch.setitem(RUNS, "data:careless", lambda: pictures(data__name="careless"))
    assert outcome("data:careless", "data.brightness", 0.5) == "nothing"
    assert outcome("data:careless", "data.seed", 0) == "changed"
    assert outcome("data:careless", "data.num_eval_examples", 43) == "changed"
    assert outcome("data:careless", "data.num_classes", 19) in ("changed", "error")
