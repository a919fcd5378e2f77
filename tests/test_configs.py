"""Every config: its fields are just those that are read."""

import functools
import importlib.util
import inspect
import pathlib

import pytest
from ml_collections import ConfigDict

from mhe_jax.data.build import DATA
from mhe_jax.heads import HEADS, MARGIN_HEADS, MULTILABEL_HEADS
from mhe_jax.interop import huggingface
from mhe_jax.models import BACKBONES, ENCODERS, ON_FEATURES, ON_SPARSE
from mhe_jax.ops.margins import MARGINS
from mhe_jax.ops.sampling import SAMPLERS
from mhe_jax.recipes import heads, texts
from mhe_jax.settings import Settings
from mhe_jax.train.optim.averages import AVERAGES
from mhe_jax.train.optim.optimizer import OPTIMIZERS
from mhe_jax.train.optim.schedules import SCHEDULES
from mhe_jax.train.optim.table_rules import TABLE_OPTIMIZERS

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(path for path in (ROOT / "configs").glob("*.py") if "def get_config" in path.read_text())
REGISTRIES = {
    "data": DATA,
    "backbone": {**BACKBONES, **ENCODERS, **ON_FEATURES, **ON_SPARSE, "pretrained": huggingface._pretrained},
    "head": HEADS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "average": AVERAGES,
    "table_optimizer": TABLE_OPTIMIZERS,
}
TEXTS = [path.stem for path in FILES if path.stem.startswith("xmc_")]
BAGS = [path.stem for path in FILES if path.stem.startswith("bag_")]
FEATURES = [path.stem for path in FILES if path.stem.startswith("features_")]
FACES = [path.stem for path in FILES if path.stem.startswith("arcface_")]


def load(path: pathlib.Path, arg: str = "") -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


def test_there_is_a_config_for_each_data_set_and_head():
    names = {path.stem for path in FILES}
    for pipeline in ("glyphs", "cifar10", "cifar100", "imagenet", "image_folder", "features", "bag"):
        assert {f"{pipeline}_{head}" for head in HEADS} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field_is_one_that_is_read(path):
    config = load(path)
    Settings.from_config(config)
    head_registry = MULTILABEL_HEADS if path.stem in TEXTS + BAGS else MARGIN_HEADS if path.stem in FACES else HEADS
    for section, registry in {**REGISTRIES, "head": head_registry}.items():
        accepted = inspect.signature(registry[config[section].name]).parameters
        declared = set(config[section]) - {"name", "head_sizes"}
        assert declared <= set(accepted), section


@pytest.mark.parametrize("name", HEADS)
def test_features_with_many_labels_take_the_heads_for_many_labels(name):
    config = load(ROOT / "configs" / f"features_{name}.py", "multilabel")
    Settings.from_config(config)
    assert config.data.name == "features_multilabel"
    accepted = inspect.signature(MULTILABEL_HEADS[name]).parameters
    assert set(config.head) - {"name", "head_sizes"} <= set(accepted)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_says_what_to_expect_and_the_command(path):
    text = path.read_text()
    assert f"python main.py --config=configs/{path.name}" in text or f"--config=configs/{path.name}" in text
    assert "xpected" in text or "Paper, table 1" in text or "No published figure" in text


@pytest.mark.parametrize("name", HEADS)
def test_head_sections_list_all_fields(name):
    accepted = set(inspect.signature(HEADS[name]).parameters) - {"parent", "name"}
    given_elsewhere = {"label_space", "features_dim", "dtype", "storage"}
    assert set(getattr(heads, name)()) - {"name", "head_sizes"} == accepted - given_elsewhere
    assert set(heads.REFERENCE[name]) <= accepted


@pytest.mark.parametrize("name", MULTILABEL_HEADS)
def test_head_sections_for_many_labels_list_all_fields(name):
    accepted = set(inspect.signature(MULTILABEL_HEADS[name]).parameters) - {"parent", "name"}
    given_elsewhere = {"label_space", "features_dim", "dtype", "storage"}
    assert set(getattr(heads, f"xmc_{name}")()) - {"name", "head_sizes"} == accepted - given_elsewhere
    assert set(heads.XMC_REFERENCE[name]) <= accepted


@pytest.mark.parametrize("variant", ["ohe", "mhs", "partial", "mhp", "mhc"])
def test_head_sections_on_cosines_list_all_fields(variant):
    section = getattr(heads, f"face_{variant}")()
    accepted = set(inspect.signature(MARGIN_HEADS[section["name"]]).parameters) - {"parent", "name"}
    given_elsewhere = {"label_space", "features_dim", "dtype", "storage"}
    assert set(section) - {"name", "head_sizes"} == accepted - given_elsewhere
    assert set(heads.FACE_REFERENCE[section["name"]]) <= accepted


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_sections_list_all_fields_with_their_defaults(name):
    fields = {key: value for key, value in heads.sampler(name).items() if key != "name"}
    # An old run that does not say it was not corrected; the recipes are.
    corrected = {"subtract_log_q": True} if "subtract_log_q" in fields else {}
    assert SAMPLERS[name](**fields) == SAMPLERS[name](**corrected)
    assert set(fields) == set(inspect.signature(SAMPLERS[name]).parameters)


@pytest.mark.parametrize("name", MARGINS)
def test_margin_sections_list_all_fields_with_their_defaults(name):
    fields = {key: value for key, value in heads.margin(name).items() if key != "name"}
    assert MARGINS[name](**fields) == MARGINS[name]()
    assert set(fields) == set(inspect.signature(MARGINS[name]).parameters)


@pytest.mark.parametrize(
    ("file", "arg", "expected"),
    [
        ("arcface_casia_r18", "mhs,881x12", {"head.head_sizes": (881, 12), "backbone.depth": 18}),
        ("arcface_casia_r18", "full,adaface", {"head.name": "ohe", "table_optimizer.updates": "owned"}),
        ("arcface_casia_r18", "mhc,dense", {"head.name": "mhc", "table_optimizer.name": "none"}),
        ("arcface_casia_r18", "partial,dense", {"table_optimizer.name": "none"}),
        ("arcface_casia_r18", "partial,sparse", {"table_optimizer": ConfigDict(heads.FACE_SPARSE_TABLES)}),
        ("arcface_casia_r18", "reference", {"table_optimizer.name": "none"}),
        ("arcface_casia_r18", "mhp", {"table_optimizer.name": "none"}),
        ("arcface_casia_r18", "partial,owned", {"table_optimizer.rate": 10.0}),
        ("arcface_folder", "full", {"table_optimizer.name": "none"}),
        ("xmc_amazon3m", "", {"table_optimizer.name": "adamw", "table_optimizer.storage": "bfloat16"}),
        ("xmc_amazon3m", "dense", {"table_optimizer.name": "none"}),
        ("xmc_amazon3m", "reference", {"table_optimizer.name": "none"}),
        ("xmc_eurlex57k", "", {"table_optimizer.name": "none"}),
        ("synthetic", "ohe", {"table_optimizer.momentum": 0.9}),
        ("synthetic", "ohe,dense", {"table_optimizer.name": "none"}),
        ("arcface_ms1mv3_r100", "reference", {"schedule.learning_rate": 0.001, "head.mask_padding": False}),
        ("arcface_ms1mv3_r100", "full,reference", {"schedule.learning_rate": 0.2, "dtype": "float32"}),
        (
            "arcface_webface42m_mbf",
            "",
            {"head.sampler.rate": 0.2, "head.head_sizes": (0, 1), "table_optimizer.name": "sgd"},
        ),
        (
            "arcface_webface42m_mbf",
            "mhs,sparse",
            {"head.sampler.name": "batch_union", "table_optimizer.weight_decay": 1e-4},
        ),
        ("arcface_folder", "r50,mhp", {"backbone.depth": 50, "head.name": "mhp", "data.name": "face_folder"}),
        ("arcface_folder", "cpu", {"backbone.scale": 1, "data.in_memory": True}),
        ("arcface_folder", "cpu", {"head.margin": ConfigDict(heads.margin("arcface", scale=32.0, m=0.3))}),
        *(
            ("arcface_folder", f"cpu,{name}", {"head.margin": ConfigDict(heads.margin(name, scale=32.0))})
            for name in MARGINS
        ),
        ("arcface_folder", "cpu,smoke", {"global_batch_size": 8, "data.image_size": 32}),
        ("xmc_amazon670k", "xlnet,reference", {"head.num_candidates": 75, "head.max_labels": 100}),
        ("xmc_amazon670k", "xlnet,reference", {"backbone.pooling": "first", "optimizer.no_decay": ("bias",)}),
        (
            "xmc_amazon670k",
            "reference",
            {"eval_every_steps": 0, "eval_every_epochs": 1, "dropout_off_after_step": 1000},
        ),
        ("xmc_amazon670k", "bert", {"eval_every_steps": 1000, "dropout_off_after_step": 0}),
        ("xmc_amazon670k", "", {"backbone.pooling": "first", "head.head_sizes": (8377, 80), "schedule.name": "poly"}),
        ("xmc_wiki500k", "xlnet", {"backbone.pooling": "last", "backbone.checkpoint": "xlnet-base-cased"}),
        ("xmc_eurlex4k", "ohe,reference", {"head.name": "ohe", "head.reduction": "mean", "data.valid_examples": 0}),
        ("xmc_eurlex4k", "86x46", {"head.head_sizes": (86, 46), "data.valid_examples": 1000}),
        ("xmc_eurlex4k", "reference", {"head.reduction": "mean", "backbone.feature_dropout": 0.5}),
        ("xmc_eurlex4k", "bert", {"head.reduction": "sum", "backbone.feature_dropout": 0.5, "optimizer.head_rate": 1}),
        ("xmc_folder", "", {"head.reduction": "sum", "backbone.feature_dropout": 0.1, "optimizer.head_rate": 30}),
        ("xmc_yso", "minilm,reference", {"backbone.feature_dropout": 0.5, "optimizer.head_rate": 1}),
        ("xmc_unicode", "", {"head.reduction": "mean"}),
        ("xmc_unicode", "mhp", {"head.name": "mhp", "head.rank": 8}),
        ("cifar100_mhp", "5x20,reference", {"head.head_sizes": (5, 20), "head.objective": "bce_concat"}),
        ("cifar100_mhc", "4x5x5", {"head.head_sizes": (4, 5, 5), "head.beam_width": 10}),
        ("cifar100_mhc", "small,20x5", {"backbone.name": "convnet", "total_epochs": 20.0, "dtype": "float32"}),
        ("cifar100_mhc", "reference", {"head.beam_width": 1, "optimizer.decay_all": True, "data.last_batch": "keep"}),
        (
            "cifar100_mhs",
            "reference",
            {"head.sampler.drop_one_group": True, "head.sampler.num_groups": 4, "dtype": "float32"},
        ),
        ("cifar10_ohe", "r50", {"backbone.depth": 50}),
        ("cifar10_ohe", "swa", {"total_epochs": 200.0, "average.start_epoch": 160}),
        ("cifar10_ohe", "small,swa", {"total_epochs": 20.0, "average.start_epoch": 16}),
        ("cifar10_ohe", "swa,smoke", {"total_steps": 2, "average.start_epoch": 0}),
        ("imagenet_mhp", "reference", {"head.objective": "softmax_concat", "schedule.end_learning_rate": 1e-4}),
        ("imagenet_mhs", "", {"head.sampler.num_groups": 10, "head.head_sizes": (40, 25), "head.label_smoothing": 0.1}),
        ("imagenet_ohe", "synthetic", {"data.name": "synthetic"}),
        (
            "imagenet_ohe",
            "a2",
            {
                "total_epochs": 300.0,
                "global_batch_size": 2048,
                "optimizer.name": "lamb",
                "optimizer.weight_decay": 0.02,
                "schedule.learning_rate": 5e-3,
                "clip.norm": 1.0,
                "augment.name": "a2",
                "backbone.drop_path": 0.05,
                "head.objective": "bce",
                "head.label_smoothing": 0.0,
                "data.image_size": 224,
            },
        ),
        ("imagenet_ohe", "a3", {"total_epochs": 100.0, "data.image_size": 160, "backbone.drop_path": 0.0}),
        ("imagenet_ohe", "a3,synthetic", {"data.image_shape": (160, 160, 3), "schedule.learning_rate": 8e-3}),
        ("imagenet_mhc", "a3", {"head.objective": "candidates", "head.label_smoothing": 0.0, "augment.name": "a3"}),
        ("image_folder_mhs", "small", {"backbone.name": "convnet", "data.in_memory": True}),
        ("image_folder_ohe", "small", {"data.channels": 0, "data.augmentation": "auto", "global_batch_size": 0}),
        ("image_folder_ohe", "", {"data.channels": 3, "data.augmentation": "flip_crop", "global_batch_size": 256}),
        ("image_folder_mhp", "small", {"head.rank": 8}),
        ("features_ohe", "", {"codes.name": "identity", "data.name": "features", "global_batch_size": 0}),
        ("features_mhc", "40x25", {"codes.name": "warmup", "head.head_sizes": (40, 25), "head.num_candidates": 10}),
        ("features_mhc", "multilabel", {"codes.name": "labels", "head.reduction": "sum", "head.prior": 0.001}),
        ("features_mhp", "", {"head.rank": 8}),
        ("features_mhs", "multilabel,8x5", {"head.sampler.name": "batch_union", "head.head_sizes": (8, 5)}),
    ],
)
def test_argument_strings(file, arg, expected):
    config = load(ROOT / "configs" / f"{file}.py", arg)
    assert {name: functools.reduce(getattr, name.split("."), config) for name in expected} == expected


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "xmc_unicode"])
def test_the_tokenizer_is_the_encoders_unless_another_is_set(name):
    config = load(ROOT / "configs" / f"{name}.py")
    config.backbone.checkpoint = "encoder"
    assert config.data.tokenizer == "encoder"
    config.data.tokenizer = "other"
    assert (config.backbone.checkpoint, config.data.tokenizer) == ("encoder", "other")
    config.backbone.checkpoint = "third"
    assert config.copy_and_resolve_references().data.tokenizer == "other"


@pytest.mark.parametrize("name", TEXTS)
def test_the_documents_held_out_may_be_a_share(name):
    config = load(ROOT / "configs" / f"{name}.py")
    config.data.valid_examples = 0.25
    assert config.data.valid_examples == 0.25


def test_an_encoder_without_a_recipe_takes_that_of_the_default():
    short, long = (texts.recipe(epochs=1, batch=8, max_length=n, swa=(0, 1)) for n in (16, 512))
    made = texts.make("roberta", data={}, recipes={"bert": short, "minilm": long}, head_sizes=(), encoder="minilm")
    assert (made.data.max_length, made.backbone.checkpoint) == (512, "roberta-base")


def test_an_unknown_argument_is_named():
    with pytest.raises(ValueError, match="config argument 'refrence': head sizes such as 5x20, or one of reference"):
        load(ROOT / "configs" / "cifar100_mhc.py", "refrence")


@pytest.mark.parametrize(
    ("file", "arg", "message"),
    [
        ("arcface_folder", "mhs,mhc", "names several variants: mhs, mhc"),
        ("arcface_folder", "arcface,cosface", "names several margins: arcface, cosface"),
        ("arcface_folder", "r18,r50", "names several backbones: r18, r50"),
        ("arcface_folder", "cpu,r18", "'cpu' is a network and a recipe of its own: leave out r18"),
        ("arcface_glyphs", "mhs,sparse,owned", "names several table optimizers: sparse, owned"),
        ("xmc_folder", "ohe,mhc", "names several heads: ohe, mhc"),
        ("xmc_folder", "bert,minilm", "names several encoders: bert, minilm"),
        ("xmc_unicode", "ohe,mhc", "names several heads"),
        ("bag_ohe", "features,encoder", "names several kinds of data: features, encoder"),
        ("bag_ohe", "sparse,features", "names several kinds of data: sparse, features"),
        ("image_folder_ohe", "labels,tfds", "names several kinds of data: labels, tfds"),
        ("image_folder_ohe", "single", "'single' is for labels in files: add labels"),
        ("image_folder_ohe", "vit_s16,vit_b16", "names several backbones: vit_s16, vit_b16"),
        ("imagenet_ohe", "a2,vit_s16", "names several recipes: vit_s16, a2"),
        ("imagenet_ohe", "a3,reference", "'a3' has a recipe of its own: leave out reference"),
        ("imagenet_mhp", "synthetic,tfds", "names several kinds of data: synthetic, tfds"),
        ("cifar10_ohe", "ema,swa", "names several averages: ema, swa"),
        ("cifar100_mhp", "5x20,20x5", "gives several head sizes: 5x20,20x5"),
        ("scaling", "images,faces", "names several pipelines: images, faces"),
        ("synthetic", "ohe,mhs", "names several heads: ohe, mhs"),
    ],
)
def test_arguments_that_exclude_each_other_are_named(file, arg, message):
    with pytest.raises(ValueError, match=f"config argument {message}"):
        load(ROOT / "configs" / f"{file}.py", arg)


def test_a_small_network_has_no_published_settings():
    with pytest.raises(ValueError, match="'small' is a network and a recipe of its own: leave out reference and r50"):
        load(ROOT / "configs" / "cifar100_mhc.py", "small,reference")
