"""Every field of every section, set to another value, changes the run, is an error that names it, or is free.

A run is what `tests.digest` sees of it. A field that nothing reads leaves all of that as it is, and fails here.
"""

import dataclasses
import functools
import inspect
import itertools
import pathlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data import DATA
from mhe_jax.data.faces.formats.pairs_file import write_pairs
from mhe_jax.data.images.cifar import Cifar10
from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.recipes import heads
from mhe_jax.settings import Settings
from mhe_jax.train import sections
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.data.images.test_tfds import prepare
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


def sampled(make: Callable[..., ConfigDict], head: Callable, name: str, **fields) -> Make:
    return lambda: make(head={**head((11, 5)), "sampler": heads.sampler(name, **fields)})


class Files:
    """Data on disk, once it is needed."""

    root = pathlib.Path()

    @classmethod
    def write(cls, root: pathlib.Path) -> None:
        cls.root, rng = root, np.random.default_rng(0)
        noise = lambda: PIL.Image.fromarray(rng.integers(256, size=(12, 14, 3), dtype=np.uint8))
        for split, name, number in itertools.product(("train", "val"), "abcdefg", range(3)):
            path = root / "pictures" / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise().save(path)
        for name, other in (("pairs.txt", 1), ("others.txt", 2)):
            rows = [(f"{a}/0.png", f"{b}/{other}.png", a == b) for a, b in itertools.product("abcdefg", repeat=2)]
            write_pairs(root / "pictures" / name, rows)
        cifar = root / "cifar-10-batches-py"
        cifar.mkdir()
        (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
        for name in (*Cifar10.train_files, *Cifar10.eval_files):
            rows = rng.integers(256, size=(10, 3072), dtype=np.uint8)
            (cifar / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
        (root / "documents").mkdir()
        words = ["Sea", "LAW", "act", "tax", "fish", "port"]
        for split, count in (("train", 24), ("test", 8)):
            lines = [" ".join(rng.choice(words, size=rng.integers(0, 30))) for _ in range(count)]
            (root / "documents" / f"{split}_raw_texts.txt").write_text("".join(f"{line}\n" for line in lines))
            labels = [" ".join(map(str, rng.choice(9, size=rng.integers(1, 5), replace=False))) for _ in range(count)]
            (root / "documents" / f"{split}_labels.txt").write_text("".join(f"{line}\n" for line in labels))
        train_word_pieces(iter(words), 64).save_pretrained(str(root / "tokenizer"))
        prepare(root, "tiny", {"train": 16, "test": 8, "more": 24}, size=12)


def on_disk(make: Callable[..., ConfigDict], folder: str = "", **data) -> Make:
    """A run on files, in batches of 8."""
    head = heads.xmc_ohe() if make is texts else heads.face_ohe() if make is faces else heads.ohe()
    return lambda: make(data={"path": str(Files.root / folder), **data}, head=head, global_batch_size=8, total_steps=2)


def documents() -> ConfigDict:
    made = on_disk(texts, "documents", name="xmc", tokenizer=str(Files.root / "tokenizer"), max_length=16)()
    made.data.cache_dir = str(Files.root / "tokens")
    return made


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
    "head.sampler:per_example": sampled(pictures, heads.mhs, "per_example", num_groups=2),
    "head.sampler:positive_only": sampled(pictures, heads.mhs, "positive_only"),
    "head.sampler:batch_union": sampled(pictures, heads.mhs, "batch_union"),
    "head.sampler:random_groups": sampled(pictures, heads.mhs, "random_groups"),
    "head.sampler:batch_union of texts": sampled(texts, heads.xmc_mhs, "batch_union"),
    "head.sampler:random_groups of texts": sampled(texts, heads.xmc_mhs, "random_groups"),
    "head.sampler:per_example of faces": sampled(faces, heads.face_mhs, "per_example", num_groups=2),
    "head.sampler:positive_only of faces": sampled(faces, heads.face_mhs, "positive_only"),
    "head.sampler:batch_union of faces": sampled(faces, heads.face_mhs, "batch_union"),
    "head.sampler:random_groups of faces": sampled(faces, heads.face_mhs, "random_groups"),
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
    "data:cifar10": on_disk(pictures, name="cifar10", last_batch="drop"),
    "data:image_folder": on_disk(pictures, "pictures", name="image_folder", image_size=8),
    "data:tfds": on_disk(pictures, name="tfds", dataset="tiny", image_size=8),
    "data:face_folder": on_disk(faces, "pictures", name="face_folder", eval_sets=("pairs.txt",), image_size=12),
    "data:xmc": documents,
}

# Entries without a run, as their fields are those of another one, or are tested by themselves: a vocabulary that is
# trained, and an encoder that is read from files.
OTHERWISE = {"cifar100", "face_records", "imagenet", "unicode", "pretrained"}

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
    "data:image_folder.augmentation": "affine",
    "data:tfds.augmentation": "none",
    "dataset": "nothing",
    "dtype": "bfloat16",
    "channels": 1,
    "eval_sets": ("others.txt",),
    "eval_split": "more",
    "eval_faces": ("DejaVuSans-Bold",),
    "face_vit.depth": 3,
    "global_batch_size": 16,
    "head_sizes": (10, 6),
    "image_key": "picture",
    "label_key": "number",
    "image_shape": (8, 8, 2),
    "init_from": "nowhere.pth",
    "init_parts": ("backbone",),
    "last_batch": "keep",
    "lengths": (5, 12),
    "matmul_precision": "highest",
    "mask_ratio": 0.5,
    "max_length": 14,
    "max_eval": 4,
    "max_labels": 2,
    "max_train": 20,
    "mean": (0.5, 0.4, 0.3),
    "milestones": (0.25,),
    "momentum": 0.5,
    "no_decay": ("bias",),
    "num_candidates": 3,
    "num_heads": 1,
    "objective": "softmax_concat",
    "objective of faces": "bce_per_head",
    "parts": 2,
    "pooling": "last",
    "propensity": (0.6, 2.6),
    "rate": 0.9,
    "reduction": "mean",
    "std": (0.5, 0.4, 0.3),
    "train_split": "more",
    "valid_examples": 4,
    "text_rule": "reference",
    "tokenizer": "nowhere",
    "warmup_epochs": 1.0,
    "width": 16,
    "widths": (8, 8),
}

# What has to be set for a field to matter.
WITH: dict[str, dict[str, Any]] = {
    "total_epochs": {"total_steps": 0, "total_epochs": 2.0},
    "head:mhp.num_candidates": {"head.rank": 2},
    "head.sampler:per_example.drop_one_group": {"head.sampler.num_groups": 11},
    "head.sampler:per_example of faces.drop_one_group": {"head.sampler.num_groups": 11},
    "optimizer:sgd.nesterov": {"optimizer.momentum": 0.9},
    "schedule:cosine.per_epoch": {"total_steps": 9},
}

# Read, but by no part of a run that is looked at here.
ELSEWHERE = {
    # The digits of the other heads that `describe` compares with this one, and kept in its checkpoints.
    "head:ohe.head_sizes",
    "head:ohe of texts.head_sizes",
    "head:ohe of faces.head_sizes",
}

# Not from the config, or a section of its own.
GIVEN = {
    "head": ("label_space", "features_dim", "dtype", "margin", "sampler"),
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


CASES = [
    (run, path, default)
    for run in RUNS
    for path, default in fields_of(run)
    if f"{run}.{path.rpartition('.')[2]}" not in ELSEWHERE
]
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


@pytest.fixture(scope="module", autouse=True)
def _files(tmp_path_factory):
    Files.write(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(("run", "path", "default"), CASES, ids=[f"{run}-{path}" for run, path, _ in CASES])
def test_a_field_of_a_section_is_read_or_free_or_an_error(run, path, default):
    default = None if default is inspect.Parameter.empty else default
    assert outcome(run, path, default) != "nothing"


@pytest.mark.parametrize(("run", "path", "default"), TOP, ids=[f"{run}-{path}" for run, path, _ in TOP])
def test_a_top_level_field_is_read_or_free_or_an_error(run, path, default):
    assert outcome(run, path, default) != "nothing"


def test_every_entry_of_every_registry_has_a_run():
    for data, kind in (("synthetic", ""), ("synthetic_text", " of texts"), ("face_synthetic", " of faces")):
        for path, entries in sections.registries(data).items():
            by_kind = kind if path == "head" else ""
            missing = {name for name in entries if f"{path}:{name}{by_kind}" not in RUNS}
            assert missing <= OTHERWISE, path


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
