"""Two steps of every config through the command line, on tiny data in the layouts that it expects."""

import pathlib
import pickle
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from mhe_jax.data.faces.convert import convert
from mhe_jax.data.faces.formats.pairs_file import write_pairs
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.interop import huggingface
from mhe_jax.models import ENCODERS, build_backbone
from tests import command_line
from tests.command_line import ROOT
from tests.data.features.rows import write_features
from tests.data.texts.sparse import layouts
from tests.test_configs import BAGS, FACES, FEATURES, FILES, TEXTS

RUNS = [(path.stem, "smoke") for path in FILES] + [
    ("image_folder_mhc", "small,smoke"),
    *((path.stem, "multilabel,smoke") for path in FILES if path.stem in FEATURES),
    ("bag_mhc", "sparse,smoke"),
    ("cifar100_mhp", "reference,smoke"),
    ("imagenet_mhs", "reference,smoke"),
    ("imagenet_mhc", "vit_s16,smoke"),
    ("imagenet_ohe", "a2,smoke"),
    ("imagenet_mhc", "convnext_t,smoke"),
    ("xmc_eurlex4k", "ohe,reference,smoke"),
    ("xmc_amazon670k", "xlnet,reference,smoke"),
    ("xmc_folder", "mhs,smoke"),
    ("arcface_glyphs", "mhs,smoke"),
    ("arcface_casia_r18", "full,curricularface,reference,smoke"),
]
# One of each network; the others of pictures and faces have a small one, for the networks take nearly all of the time.
WHOLE = ["cifar100_mhp", "imagenet_mhc", "arcface_casia_r18", "arcface_ms1mv3_mbf"]
# One of each pipeline, in a process that begins with Python itself.
STARTED = [("cifar10_mhp", "smoke"), ("glyphs_mhc", "smoke"), ("xmc_folder", "smoke"), ("arcface_glyphs", "smoke")]
PEOPLE = "abcdefghijk"


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory) -> pathlib.Path:
    """CIFAR pickles, documents with encoders, pictures in class folders, and faces in folders and records."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_cifar(root, rng)
    write_documents(root / "documents", rng)
    write_features(root / "features")
    (root / "sparse").mkdir()
    layouts.one_file(root / "sparse")
    write_features(root / "features_multilabel", multilabel=True)
    for name in ENCODERS:
        write_encoder(root / name, name)
    for split, count in (("train", 3), ("val", 1)):
        write_pictures(root / split, count, (80, 70, 3), rng)
        write_pictures(root / "faces" / split, 2, (32, 32, 3), rng)
    rows = [(f"{a}/0.png", f"{b}/1.png", a == b) for a, b in zip(PEOPLE * 2, PEOPLE + PEOPLE[1:] + "a", strict=True)]
    write_pairs(root / "faces" / "val_pairs.txt", rows)
    convert(root / "faces" / "train", root / "records")
    convert(root / "faces" / "val_pairs.txt", root / "records" / "lfw.bin", root=root / "faces" / "val")
    return root


def write_cifar(root, rng):
    def pickled(path, count, labels, classes):
        path.parent.mkdir(exist_ok=True)
        data = rng.integers(256, size=(count, 3072), dtype=np.uint8)
        path.write_bytes(pickle.dumps({"data": data, labels: [i % classes for i in range(count)]}))

    for part in ("train", "test"):
        pickled(root / "cifar-100-python" / part, 64, "fine_labels", 100)
    meta = {"fine_label_names": [f"class {i}" for i in range(100)]}
    (root / "cifar-100-python" / "meta").write_bytes(pickle.dumps(meta))
    for part in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pickled(root / "cifar-10-batches-py" / part, 32, "labels", 10)
    meta = {"label_names": [f"class {i}" for i in range(10)]}
    (root / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps(meta))


WORDS = ["sea", "law", "act", "tax", "fish", "port"]


def write_documents(folder, rng):
    folder.mkdir()
    for split, count in (("train", 24), ("test", 8)):
        texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 30))) for _ in range(count)]
        (folder / f"{split}_raw_texts.txt").write_text("".join(f"{text}\n" for text in texts))
        labels = [" ".join(map(str, rng.choice(37, size=rng.integers(0, 5), replace=False))) for _ in range(count)]
        (folder / f"{split}_labels.txt").write_text("".join(f"{row}\n" for row in labels))


def write_encoder(folder, name):
    tokenizer = train_word_pieces(iter(WORDS), 64)
    tokenizer.save_pretrained(str(folder))
    width = {"hidden_size": 8, "num_layers": 5, "num_heads": 2, "intermediate_size": 8}
    section = ConfigDict({"name": name, "vocab_size": len(tokenizer), **width})
    variables = build_backbone(section, np.float32).init(
        jax.random.key(0), np.ones((1, 4), np.int32), np.full(1, 4), train=False
    )
    huggingface.save_encoder(variables["params"], section, folder)


def write_pictures(folder, count, shape, rng):
    for name in PEOPLE:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            PIL.Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(folder / name / f"{i}.png")


def start(*flags):
    command = [sys.executable, "main.py", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def flags_of(name, arg, data_folder, workdir):
    small = name not in [*TEXTS, *FEATURES, *BAGS] and (name not in WHOLE or "reference" in arg)
    config = f"tests/small_network.py:{name}," if small else f"configs/{name}.py:"
    flags = [f"--config={config}{arg}", f"--workdir={workdir}"]
    if name.startswith(("cifar", "image_folder")):
        flags.append(f"--config.data.path={data_folder}")
    if name in FEATURES:
        flags.append(f"--config.data.path={data_folder}/features{'_multilabel' * ('multilabel' in arg)}")
    if name in BAGS:
        flags.append(f"--config.data.path={data_folder}/{'sparse' if 'sparse' in arg else 'documents'}")
    if name == "arcface_folder":
        flags.append(f"--config.data.path={data_folder}/faces")
    elif name in FACES and name != "arcface_glyphs":
        flags += [f"--config.data.path={data_folder}/records", "--config.data.eval_sets=('lfw.bin',)"]
    if name in TEXTS and name != "xmc_unicode":
        encoder = "xlnet" if "xlnet" in arg else "bert"
        flags += [f"--config.data.path={data_folder}/documents", f"--config.data.cache_dir={workdir}/cache"]
        flags.append(f"--config.backbone.checkpoint={data_folder}/{encoder}")
    return flags


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arg"), RUNS, ids=lambda value: value)
def test_two_steps_through_the_command_line(name, arg, data_folder, tmp_path):
    run = start if (name, arg) in STARTED else command_line.main
    done = run(*flags_of(name, arg, data_folder, tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "result.json").exists()
    assert '"step": 2' in done.stdout
