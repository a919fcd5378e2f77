"""Your own people: `DIR/train/<person>/*.jpg`, aligned faces of 112x112, and pairs in `DIR/val_pairs.txt`.

A line of the pairs is `picture picture same`, the pictures relative to DIR/val, same being 0 or 1; `.bin` sets of
insightface work too (`--config.data.eval_sets`). Variants: `:full` (default), `:mhs`, `:partial`, `:mhp`, `:mhc`;
backbones: `:r18`, `:r50`, `:r100` and MobileFaceNet, the default. `:cpu` is a recipe for a few thousand pictures
without a GPU: they are halved in size, and the network, MobileFaceNet, is half as wide.

No published figure. Expected: the faces in docs/results.md (this project's measurement).

    python main.py --config=configs/arcface_folder.py --config.data.path=DIR
"""

from mhe_jax.recipes import faces, heads
from mhe_jax.recipes.arguments import one_of

BACKBONES = ("r18", "r50", "r100")
SCALE = 32.0


def get_config(arg=""):
    words = [word for word in (arg or "").split(",") if word]
    backbone = one_of(words, BACKBONES, "backbones", "mbf")
    rest = ",".join(word for word in words if word not in (*BACKBONES, "cpu"))
    others = [word for word in words if word in (*BACKBONES, "reference")]
    if "cpu" in words and others:
        raise ValueError(f"config argument 'cpu' is a network and a recipe of its own: leave out {', '.join(others)}")
    config = faces.make(
        rest,
        backbone,
        num_classes=0,
        sizes=(),
        margin=heads.margin("arcface", scale=SCALE, m=0.3) if "cpu" in words else None,
        variant="full",
        eval_sets=("val_pairs.txt",),
        learning_rate=0.1,
        warmup_epochs=1.0,
        epochs=30.0,
        batch=256,
        large=False,
    )
    config.data.update(name="face_folder", layout="auto", image_key="", label_key="")
    if "cpu" in words:
        config.data.update(image_size=56, in_memory=True, num_workers=0)
        config.backbone.scale, config.backbone.features_dim = 1, 256
        config.head.margin.scale = SCALE
        rates = {"head_rate": 1.0, "backbone_rate": 1.0, "layer_decay": 1.0}
        config.optimizer = {"name": "adamw", "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.05, **rates}
        config.schedule = {"name": "cosine", "learning_rate": 2e-3, "warmup_epochs": 1.0, "per_epoch": False}
        config.total_epochs, config.global_batch_size, config.dtype = 10.0, 64, "float32"
        if "smoke" in words:
            faces.smoke(config)
    return config
