"""`mhe export`: one line for what is wrong, and nothing written then."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from mhe_jax.export import output, torch_state
from mhe_jax.export.formats import export
from mhe_jax.labels import LabelSpace
from mhe_jax.recipes import heads
from mhe_jax.train import experiment
from tests.command_line import mhe
from tests.export.untrained import config_of, untrained


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run without weights."""
    folder = tmp_path_factory.mktemp("run")
    untrained(config_of("pictures"), folder)
    return folder


def test_a_run_without_weights(workdir, tmp_path):
    with pytest.raises(ValueError, match="no weights to use"):
        export(experiment.usable_config(workdir), workdir, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tflite", {}, "--format=tflite: it must be one of stablehlo, onnx, safetensors, torch"),
        ("torch", {"table_dtype": "int8"}, "--table_dtype=int8 is of --format=stablehlo; onnx takes int8"),
        ("onnx", {"table_dtype": "float8_e4m3fn"}, "onnx takes int8"),
    ],
)
def test_formats_that_there_are_not(kind, options, message, workdir, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(experiment.usable_config(workdir), workdir, kind, tmp_path / "out", **options)


def claim(folder, workdir, files=()):
    """Exports files of the content 'new' to a folder."""
    with output.claimed(folder, workdir) as made:
        for name in files:
            (made / name).write_text("new")


def test_folders_of_others_stay(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="files that no export wrote"):
        claim(tmp_path / "mine", tmp_path / "run")
    with pytest.raises(ValueError, match="is a file"):
        claim(tmp_path / "mine" / "thesis.tex", tmp_path / "run")
    (tmp_path / "mine" / "manifest.json").write_text('{"made_by": "somebody"}')
    with pytest.raises(ValueError, match="files that no export wrote"):
        claim(tmp_path / "mine", tmp_path / "run")
    (tmp_path / "mine" / "manifest.json").write_text("[")
    with pytest.raises(ValueError, match="files that no export wrote"):
        claim(tmp_path / "mine", tmp_path / "run")
    claim(tmp_path / "new" / "deep", tmp_path / "run")
    assert (tmp_path / "new" / "deep").is_dir()
    (tmp_path / "killed" / ".export-x").mkdir(parents=True)
    claim(tmp_path / "killed", tmp_path / "run", ["model"])
    assert (tmp_path / "killed" / "model").exists()
    with pytest.raises(ValueError, match="is the run itself"):
        claim(tmp_path / "new", tmp_path / "new")


def test_an_earlier_export_stays_until_the_next_is_whole(tmp_path):
    folder = tmp_path / "out"
    (folder / "tokenizer").mkdir(parents=True)
    made_by = {"made_by": "mhe_jax 1", "bytes": {"model": 1, "tokenizer/words": 1}}
    texts = {"model": "old", "tokenizer/words": "old", "mine": "old", "manifest.json": json.dumps(made_by)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    here = lambda: {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(FileNotFoundError):
        claim(folder, tmp_path / "run", ["model", "no/folder"])
    assert here() == texts
    with pytest.raises(ValueError, match="mine is of no export, and stays as it is"):
        claim(folder, tmp_path / "run", ["model", "mine"])
    assert here() == texts
    claim(folder, tmp_path / "run", ["model", "manifest.json"])
    assert here() == {"model": "new", "manifest.json": "new", "mine": "old"}
    assert not (folder / "tokenizer").exists()


def test_names_with_line_breaks_keep_their_lines(tmp_path):
    trained = untrained(config_of("pictures"), tmp_path / "run")
    named = experiment.Classes(19, ["a", "b", "c", "two\nlines"])
    output.write_classes(tmp_path, dataclasses.replace(trained, classes=named))
    assert (tmp_path / output.CLASSES).read_text().splitlines()[2:5] == ["c", "two lines", "4"]


def test_torch_names_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match="have no backbone 'convnet'"):
        torch_state.write(untrained(config_of("pictures"), tmp_path / "pictures"), tmp_path)
    with pytest.raises(ValueError, match="codes of their own"):
        torch_state.write(untrained(config_of("texts"), tmp_path / "texts"), tmp_path)


def test_torch_has_the_published_names(tmp_path):
    config = config_of("pictures", heads.ohe())
    with config.unlocked():
        config.data.update(image_shape=(8, 8, 3))
        config.backbone = ConfigDict({"name": "resnet_cifar", "depth": 18, "bn_groups": 1})
    trained = untrained(config, tmp_path / "run")
    torch_state.write(trained, tmp_path)
    state = load_file(tmp_path / torch_state.FILE)
    assert state["fc.weight"].shape == (19, trained.task.backbone.features_dim)
    kernel = np.asarray(trained.weights["params"]["head"]["kernel"])
    np.testing.assert_array_equal(state["fc.weight"][trained.codes.id_of_code], kernel)


@pytest.mark.parametrize(
    ("backbone", "layout", "names"),
    [
        (
            {"name": "vit", "patch_size": 4, "width": 6, "depth": 1, "num_heads": 2},
            "timm_vit",
            {
                "cls_token": (1, 1, 6),
                "pos_embed": (1, 5, 6),
                "blocks.0.attn.qkv.weight": (18, 6),
                "head.weight": (19, 6),
            },
        ),
        (
            {"name": "convnext", "depths": (1, 1), "widths": (4, 6)},
            "timm_convnext",
            {
                "stem.0.weight": (4, 3, 4, 4),
                "stages.1.blocks.0.conv_dw.weight": (6, 1, 7, 7),
                "head.fc.weight": (19, 6),
            },
        ),
    ],
    ids=["vit", "convnext"],
)
def test_torch_has_the_names_of_timm(backbone, layout, names, tmp_path):
    config = config_of("pictures", heads.ohe())
    with config.unlocked():
        config.data.update(image_shape=(8, 8, 3))
        config.backbone = ConfigDict(backbone)
    torch_state.write(untrained(config, tmp_path / "run"), tmp_path)
    state = load_file(tmp_path / torch_state.FILE)
    assert {name: state[name].shape for name in names} == names
    assert json.loads((tmp_path / output.MANIFEST).read_text())["layout"] == layout


def test_the_command_line_says_it_in_one_line(workdir, tmp_path):
    done = mhe("export", f"--workdir={workdir}", "--format=onyx", f"--output={tmp_path}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: --format=onyx: it must be one of stablehlo, onnx, safetensors, torch\n"


def test_a_state_dict_has_one_row_for_each_class(tmp_path):
    config = config_of("pictures")
    config.backbone.name = "iresnet"
    head = SimpleNamespace(label_space=LabelSpace(7, (7,)), sub_centers=3)
    sizes = {"codes": SimpleNamespace(num_codes=7), "classes": SimpleNamespace(number=7)}
    trained = SimpleNamespace(settings=config, task=SimpleNamespace(head=head), **sizes)
    with pytest.raises(ValueError, match="--format=torch: config.head.sub_centers is 3, and the published models have"):
        torch_state.write(trained, tmp_path)
