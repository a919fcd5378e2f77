"""Small runs, one for each entry of each registry, for a test that changes their fields one by one."""

import itertools
import pathlib
import pickle
from collections.abc import Callable

import numpy as np
import PIL.Image
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.faces.formats.pairs_file import write_pairs
from mhe_jax.data.images.cifar import Cifar10
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.recipes import heads
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.data.features.rows import write_features
from tests.data.images.test_tfds import prepare
from tests.data.texts.sparse import layouts

Make = Callable[[], ConfigDict]


def pictures(**fields) -> ConfigDict:
    config = tiny_config.get_config()
    config.data.num_examples = 104
    return with_fields(config, fields)


def texts(**fields) -> ConfigDict:
    return with_fields(tiny_text_config.get_config(), fields)


def faces(**fields) -> ConfigDict:
    config = tiny_face_config.get_config()
    config.data.num_examples = 104
    return with_fields(config, fields)


def with_fields(config: ConfigDict, fields: dict) -> ConfigDict:
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
        for split, number in (("train", 21), ("val", 9)):
            folder = root / "labelled" / split
            folder.mkdir(parents=True)
            rows = ["file_name,labels,topics"]
            for index in range(number):
                noise().save(folder / f"{index}.png")
                rows.append(f"{index}.png,sea;{'abcdefg'[index % 7]},law;tax")
            (folder / "labels.csv").write_text("\n".join(rows))
        cifar = root / "cifar-10-batches-py"
        cifar.mkdir()
        (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
        for name in (*Cifar10.train_files, *Cifar10.eval_files):
            rows = rng.integers(256, size=(10, 3072), dtype=np.uint8)
            (cifar / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
        (root / "documents").mkdir()
        words = ["Sea", "LAW", "act", "tax", "fish", "port"]
        for split, count in (("train", 27), ("test", 8)):
            lines = [" ".join(rng.choice(words, size=rng.integers(0, 30))) for _ in range(count)]
            (root / "documents" / f"{split}_raw_texts.txt").write_text("".join(f"{line}\n" for line in lines))
            labels = [" ".join(map(str, rng.choice(9, size=rng.integers(1, 5), replace=False))) for _ in range(count)]
            (root / "documents" / f"{split}_labels.txt").write_text("".join(f"{line}\n" for line in labels))
        train_word_pieces(iter(words), 64).save_pretrained(str(root / "tokenizer"))
        write_features(root / "features")
        write_features(root / "features_multilabel", multilabel=True)
        for name, corpus in XmcText(path=str(root / "documents")).splits().items():
            folder = root / "embedded" / {"train": "train", "eval": "val"}[name]
            folder.mkdir(parents=True)
            np.save(folder / "features.npy", rng.standard_normal((corpus.labels.shape[0], 6), np.float32))
            scipy.sparse.save_npz(folder / "labels.npz", corpus.labels)
        (root / "sparse").mkdir()
        layouts.two_files(root / "sparse")
        for path in (root / "sparse").glob("val_*"):
            path.unlink()
        (root / "weights.txt").write_text("3 2.0\n4 0.5\n")
        scipy.sparse.save_npz(root / "scores.npz", scipy.sparse.csr_matrix(rng.uniform(size=(104, 19))))
        prepare(root, "tiny", {"train": 20, "test": 8, "more": 24}, size=12)


def on_disk(make: Callable[..., ConfigDict], folder: str = "", **data) -> Make:
    """A run on files, in batches of 8."""
    head = heads.xmc_ohe() if make is texts else heads.face_ohe() if make is faces else heads.ohe()
    return lambda: make(data={"path": str(Files.root / folder), **data}, head=head, global_batch_size=8, total_steps=2)


def labelled() -> ConfigDict:
    made = on_disk(pictures, "labelled", name="labelled_images", image_size=8)()
    made.head = ConfigDict(heads.xmc_ohe())
    return made


def documents() -> ConfigDict:
    made = on_disk(texts, "documents", name="xmc", tokenizer=str(Files.root / "tokenizer"), max_length=16)()
    made.data.cache_dir = str(Files.root / "tokens")
    return made


def features(**fields) -> ConfigDict:
    """Of many labels a row, where `data__name` says so."""
    many = fields.get("data__name") == "features_multilabel"
    config = (texts if many else pictures)(head=heads.xmc_ohe() if many else heads.ohe())
    config.data = {"name": "features", "features_dim": 0}
    config.backbone = {"name": "identity"}
    config.global_batch_size, config.total_steps = 8, 2
    config = with_fields(config, fields)
    config.data.path = str(Files.root / config.data.name)
    return config


def bag(name: str, folder: str, **fields) -> ConfigDict:
    """A run on sparse features, or on words."""
    config = texts(head=heads.xmc_ohe())
    config.data = {"name": name, "path": str(Files.root / folder)}
    config.backbone = {"name": "bag", "features_dim": 8}
    config.global_batch_size, config.total_steps = 8, 2
    return with_fields(config, fields)


def tokens_and_words() -> ConfigDict:
    config = documents()
    config.data.name = "xmc_words"
    config.backbone = {"name": "side_by_side", "network": config.backbone, "bag": {"name": "bag", "features_dim": 8}}
    return config


def embedded_words() -> ConfigDict:
    """Words beside features of six numbers."""
    config = bag("features_words", "documents")
    config.data.features = str(Files.root / "embedded")
    config.backbone = {"name": "side_by_side", "network": {"name": "identity"}, "bag": config.backbone}
    return config


CASCADE = {"num_candidates": 4, "hidden_dim": 8}
ENCODER = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8}
OWNED = {"name": "sgd", "updates": "owned"}
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
    "optimizer:lamb": lambda: pictures(optimizer={"name": "lamb"}),
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
    "table_optimizer:sgd of pictures": lambda: pictures(head=heads.ohe(), table_optimizer=OWNED),
    "table_optimizer:rowwise_adagrad": lambda: pictures(
        head=heads.ohe(), table_optimizer={**OWNED, "name": "rowwise_adagrad"}
    ),
    "table_optimizer:adagrad": lambda: texts(table_optimizer={"name": "adagrad"}),
    "table_optimizer:adamw": lambda: texts(table_optimizer={"name": "adamw"}),
    "clip:none": lambda: pictures(),
    "clip:norm": lambda: pictures(clip={"name": "norm", "norm": 1.0}),
    "augment:own": lambda: pictures(augment={"name": "own", "policy": "timm"}),
    "augment:none": lambda: pictures(),
    "codes:identity": lambda: pictures(),
    "codes:file": lambda: pictures(codes={"name": "file", "path": "codes.npy"}),
    "codes:taxonomy": lambda: pictures(codes={"name": "taxonomy", "path": "tree.tsv"}),
    "codes:labels": lambda: texts(codes={"name": "labels"}),
    "codes:names": lambda: pictures(codes={"name": "names", "path": "encoder"}),
    "codes:frequency": lambda: pictures(codes={"name": "frequency"}),
    "codes:pretrained": lambda: features(head=heads.mhc((4, 5)), codes={"name": "pretrained"}),
    "codes:warmup": lambda: pictures(codes={"name": "warmup", "epochs": 0.5}),
    "class_weights:none": lambda: pictures(),
    "class_weights:balanced": lambda: pictures(class_weights={"name": "balanced"}),
    "class_weights:effective_number": lambda: pictures(class_weights={"name": "effective_number", "beta": 0.5}),
    "class_weights:file": lambda: pictures(class_weights={"name": "file", "path": str(Files.root / "weights.txt")}),
    "class_weights:propensity": lambda: texts(class_weights={"name": "propensity"}),
    "sampling:none": lambda: pictures(),
    "sampling:class_balanced": lambda: pictures(sampling={"name": "class_balanced"}),
    "sampling:repeat_factor": lambda: pictures(sampling={"name": "repeat_factor", "threshold": 0.055}),
    "distillation:none": lambda: pictures(),
    "distillation:scores": lambda: pictures(
        head=heads.ohe(), distillation={"name": "scores", "file": str(Files.root / "scores.npz")}
    ),
    "backbone:convnet": lambda: pictures(),
    "backbone:resnet": lambda: pictures(backbone={"name": "resnet", "depth": 18}),
    "backbone:resnet_cifar": lambda: pictures(backbone={"name": "resnet_cifar", "depth": 18}),
    "backbone:vit": lambda: pictures(
        backbone={"name": "vit", "patch_size": 4, "width": 8, "depth": 2, "num_heads": 2, "drop_path": 0.1}
    ),
    "backbone:convnext": lambda: pictures(backbone={"name": "convnext", "depths": (1, 1), "widths": (4, 6)}),
    "backbone:iresnet": lambda: faces(backbone={"name": "iresnet", "depth": 18, "features_dim": 8}),
    "backbone:mobilefacenet": lambda: faces(backbone={"name": "mobilefacenet", "features_dim": 8, "scale": 1}),
    "backbone:face_vit": lambda: faces(
        backbone={"name": "face_vit", "features_dim": 8, "patch_size": 4, "width": 8, "depth": 2, "num_heads": 2}
    ),
    "backbone:bert": lambda: texts(backbone={"name": "bert", "vocab_size": 97, **ENCODER, **DROPOUT}),
    "backbone:xlnet": lambda: texts(backbone={"name": "xlnet", "vocab_size": 97, **ENCODER, **DROPOUT}),
    "backbone:modernbert": lambda: texts(
        backbone={"name": "modernbert", "vocab_size": 97, "local_window": 4, **ENCODER, **DROPOUT, "num_layers": 4}
    ),
    "backbone:side_by_side": lambda: embedded_words(),
    "backbone:identity": lambda: features(backbone__hidden_dims=(6,), backbone__dropout=0.1),
    "backbone:bag": lambda: bag("sparse", "sparse", backbone__dropout=0.1, backbone__feature_dropout=0.1),
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
    "data:labelled_images": labelled,
    "data:tfds": on_disk(pictures, name="tfds", dataset="tiny", image_size=8),
    "data:face_folder": on_disk(faces, "pictures", name="face_folder", eval_sets=("pairs.txt",), image_size=12),
    "data:xmc": documents,
    "data:sparse": lambda: bag("sparse", "sparse", data__max_train=45),
    "data:words": lambda: bag("words", "documents"),
    "data:xmc_words": lambda: tokens_and_words(),
    "data:features_words": lambda: embedded_words(),
    "data:features": lambda: features(),
    "data:features_multilabel": lambda: features(data__name="features_multilabel"),
}
