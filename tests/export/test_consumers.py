"""The consumers that docs/export.md shows, each in a process that cannot import this package."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from mhe_jax.export import folder as folders
from mhe_jax.export import onnx_model, stablehlo, torch_state
from mhe_jax.export.program import program_of
from mhe_jax.recipes import heads
from tests import tiny_bag_config
from tests.export.untrained import WIDTH, config_of, untrained

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = {
    re.search(r"exported/(\w+)", block)[1]: block
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
}
# Without site, its .pth files and the current folder: what is asked for lies on `sys.path`, this package does not.
ISOLATED = """
import sys
sys.path += {folders!r}
try:
    import mhe_jax
except ImportError:
    pass
else:
    raise SystemExit("mhe_jax is here")
{block}
np.savez("out.npz", ids=np.asarray(ids), scores=np.asarray(scores))
"""


def consumed(name, folder):
    """`ids` and `scores` of a block, run in `folder`."""
    packages = ("jax", "onnxruntime", "torch", "numpy", "tokenizers", "safetensors")
    places = (importlib.util.find_spec(package) for package in packages)
    paths = sorted({str(pathlib.Path(place.origin).parents[1]) for place in places if place})
    code = ISOLATED.format(folders=paths, block=BLOCKS[name])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(folder / "out.npz")
    return found["ids"], found["scores"]


def assert_same(found, ids, scores):
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_allclose(found[1], scores, rtol=0, atol=1e-5)


def exported(folder, kind, head, name, write, **options):
    """A run and its program, written where the page has it."""
    trained = untrained(config_of(kind, head), folder / "run")
    program = program_of(trained, 5, **options)
    (folder / "exported" / name).mkdir(parents=True)
    write(trained, program, folder / "exported" / name)
    return trained, program


def test_the_page_has_one_of_each():
    assert list(BLOCKS) == ["stablehlo", "onnx", "texts", "words", "folder", "torch"]


@pytest.mark.parametrize("name", ["stablehlo", "onnx"])
def test_pictures(name, tmp_path):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    write = {"stablehlo": stablehlo, "onnx": onnx_model}[name].write
    _, program = exported(tmp_path, "pictures", heads.mhp((4, 5), rank=2), name, write, float32=name == "onnx")
    pictures = np.random.default_rng(1).integers(256, size=(7, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    expected = program({"image": pictures})
    assert_same(consumed(name, tmp_path), expected["ids"], expected["scores"])


def test_texts(tmp_path):
    pytest.importorskip("onnxruntime")
    trained, program = exported(tmp_path, "texts", None, "texts", onnx_model.write, float32=True)
    texts = ["3 4 5", "", " ".join(map(str, range(3, 60))), "90 1 17 8"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    expected = program(trained.data.inputs_of(texts))
    assert_same(consumed("texts", tmp_path), expected["ids"], expected["scores"])


def test_words(tmp_path):
    pytest.importorskip("onnxruntime")
    documents = tmp_path / "documents"
    documents.mkdir()
    for split, texts in {
        "train": ["Sea of law", "a law, the LAW", "sea fish", "tax"] * 3,
        "test": ["fish tax"],
    }.items():
        (documents / f"{split}_raw_texts.txt").write_text("".join(f"{text}\n" for text in texts))
        (documents / f"{split}_labels.txt").write_text("".join(f"{number % 3}\n" for number in range(len(texts))))
    config = tiny_bag_config.get_config(head="ohe")
    config.data.path, config.data.max_row_features = str(documents), 6
    config.mesh.update(data=-1, classes=1)
    trained = untrained(config, tmp_path / "run", load=True)
    program = program_of(trained, 2, float32=True)
    (tmp_path / "exported" / "words").mkdir(parents=True)
    onnx_model.write(trained, program, tmp_path / "exported" / "words")
    texts = ["The law of the sea, the SEA", "", "unknown", "fish. tax; fish"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    expected = program(trained.data.inputs_of(texts))
    assert_same(consumed("words", tmp_path), expected["ids"], expected["scores"])


def test_features_with_numpy_alone(tmp_path):
    write = lambda trained, program, folder: folders.write(trained, folder)
    _, program = exported(tmp_path, "features", heads.ohe(), "folder", write)
    features = np.random.default_rng(1).normal(size=(7, WIDTH)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    expected = program({"features": features})
    assert_same(consumed("folder", tmp_path), expected["ids"], expected["scores"])


def test_the_classifier_in_torch(tmp_path):
    pytest.importorskip("torch")
    write = lambda trained, program, folder: torch_state.write(trained, folder)
    trained, program = exported(tmp_path, "texts", heads.xmc_ohe(), "torch", write)
    inputs = trained.data.inputs_of(["3 4 5", "90 1 17 8"])
    np.save(tmp_path / "embedded.npy", np.asarray(trained.task.embed(program.weights, inputs)))
    expected = program(inputs)
    assert_same(consumed("torch", tmp_path), expected["ids"], expected["scores"])
