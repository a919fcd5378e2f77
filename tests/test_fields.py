"""Every field of every section, set to another value, changes the run, is an error that names it, or is free.

A run is what `tests.digest` sees of it. A field that nothing reads leaves all of that as it is, and fails here.
"""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from mhe_jax import registry
from mhe_jax.data.build import DATA
from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.settings import Settings, flat
from mhe_jax.train import sections
from tests.digest import Run
from tests.field_runs import RUNS, Files, pictures, with_fields

# Entries without a run, as their fields are those of another one, or are tested by themselves: a vocabulary that is
# trained, and an encoder that is read from files.
OTHERWISE = {"cifar100", "face_records", "imagenet", "unicode", "pretrained"}

# Another value for a field: by `section:entry.field`, else by its name, else one next to it.
OTHERS: dict[str, Any] = {
    "accumulate_steps": 2,
    "codes:warmup.epochs": 1.0,
    "augment:own.policy": "trivial",
    "jitter": (0.1, 0.1, 0.1, 0.1),
    "sampling:repeat_factor.threshold": 0.5,
    "balanced.start_epoch": 1.0,
    "effective_number.start_epoch": 1.0,
    "file.start_epoch": 1.0,
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
    "depths": (1, 2),
    "backbone:vit.depth": 3,
    "backbone:vit.patch_size": 2,
    "backbone:convnext.widths": (4, 8),
    "data:image_folder.augmentation": "affine",
    "data:labelled_images.augmentation": "affine",
    "data:tfds.augmentation": "none",
    "dataset": "nothing",
    "dtype": "bfloat16",
    "channels": 1,
    "eval_sets": ("others.txt",),
    "eval_split": "more",
    "eval_faces": ("DejaVuSans-Bold",),
    "face_vit.depth": 3,
    "analyzer": "char_wb",
    "data:features.features_dim": 24,
    "data:features_multilabel.features_dim": 24,
    "global_batch_size": 24,
    "head_sizes": (10, 6),
    "hidden_dims": (6, 5),
    "image_key": "picture",
    "label_key": "number",
    "layout": "tar",
    "label_column": "topics",
    "label_separator": ",",
    "text_column": "body",
    "image_shape": (8, 8, 2),
    "init_from": "nowhere.pth",
    "init_parts": ("backbone",),
    "last_batch": "keep",
    "later_rates": (0.9,),
    "lengths": (5, 12),
    "matmul_precision": "highest",
    "head_matmul_precision": "highest",
    "mask_ratio": 0.5,
    "local_window": 8,
    "backbone:modernbert.max_positions": 4,
    "max_length": 14,
    "max_eval": 4,
    "max_labels": 2,
    "max_row_features": 3,
    "max_vocabulary": 4,
    "min_documents": 18,
    "ngrams": (1, 2),
    "max_train": 20,
    "mean": (0.5, 0.4, 0.3),
    "milestones": (0.25,),
    "moments": "bfloat16",
    "momentum": 0.5,
    "new_classes": "extend",
    "no_decay": ("bias",),
    "num_candidates": 3,
    "num_heads": 1,
    "objective": "softmax_concat",
    "objective of faces": "bce_per_head",
    "head:mhc.objective": "path",
    "parts": 2,
    "pooling": "last",
    "prefix": "sea ",
    "propensity": (0.6, 2.6),
    "rate": 0.9,
    "reduction": "mean",
    "storage": "bfloat16",
    "std": (0.5, 0.4, 0.3),
    "train_split": "more",
    "valid_examples": 4,
    "text_rule": "reference",
    "tokenizer": "nowhere",
    "unfreeze_steps": (1,),
    "updates": "owned",
    "updates of pictures": "sparse",
    "none.eps": 0.5,
    "rowwise_adagrad.updates": "sparse",
    "warmup_epochs": 1.0,
    "width": 16,
    "widths": (8, 8),
}

# What has to be set for a field to matter.
WITH: dict[str, dict[str, Any]] = {
    "total_epochs": {"total_steps": 0, "total_epochs": 2.0},
    "head.sampler:per_example.drop_one_group": {"head.sampler.num_groups": 11},
    "head.sampler:per_example of faces.drop_one_group": {"head.sampler.num_groups": 11},
    # Only classes that are drawn are corrected: so many that a batch has some of them.
    **{
        f"head.sampler:random_groups{kind}.subtract_log_q": {"head.head_sizes": (0, 1), "head.sampler.rate": 0.95}
        for kind in ("", " of texts", " of faces")
    },
    **{f"head:ohe{kind}.frequent": {"head.bottleneck": 3} for kind in ("", " of texts")},
    "optimizer:sgd.nesterov": {"optimizer.momentum": 0.9},
    # With their own backbone, of one layer, it is an error.
    "optimizer:adamw.layer_decay": {"backbone": {"name": "resnet_cifar", "depth": 18}},
    "schedule:cosine.per_epoch": {"total_steps": 9},
    "augment:own.erase_noise": {"augment.erase": 0.5},
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
    "head": ("label_space", "features_dim", "dtype", "storage", "margin", "sampler"),
    "backbone": ("dtype", "network", "bag"),
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
    "codes": "schedule",
    "augment": "step",
}


@functools.cache
def unchanged(run: str, needs: str) -> Run:
    """The run with what some of its fields need."""
    return Run(with_fields(RUNS[run](), WITH.get(needs, {})))


def outcome(run: str, path: str, default: Any) -> str:
    """What becomes of a run whose field has another value: 'free', 'error', 'changed' or 'nothing'."""
    section, _, name = path.rpartition(".")
    needs = next((key for key in (f"{run}.{name}", path) if key in WITH), "")
    config = with_fields(RUNS[run](), WITH.get(needs, {}))
    if sections.is_free(path, flat(config)):
        return "free"
    value = flat(config).get(path, default)
    entry, _, kind = run.partition(":")[2].partition(" of ")
    keys = (f"{run}.{name}", f"{entry}.{name}", f"{name} of {kind}", name)
    other = next((OTHERS[key] for key in keys if key in OTHERS), None)
    other = _next(value) if other is None else other
    assert other != value, f"{path}: no other value is known"
    first = FIRST.get(section.partition(".")[0], "order")
    try:
        before, after = unchanged(run, needs), Run(with_fields(config, {path: other}))
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


# The pictures are resized on purpose, so that the fields about it change something.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pictures looked at are not:UserWarning")
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
            if path in ("backbone.network", "backbone.bag", "augment"):
                continue  # the same as those of 'backbone', and as 'own' with other defaults
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
