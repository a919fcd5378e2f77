"""MS1MV3 (93,431 people, 5.2 M pictures), MobileFaceNet. Variants: `:full`, `:partial`, `:mhs` (default, {13;7187}).

The recipe is insightface's (batch 256 on 8 GPUs, decay 1e-4, 40 epochs). No published figure for the published heads.
Expected here: not measured by this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_ms1mv3_mbf.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces


def get_config(arg=""):
    return faces.make(
        arg,
        "mbf",
        num_classes=93_431,
        sizes=(13, 7187),
        learning_rate=0.2,
        warmup_epochs=2.0,
        epochs=40.0,
        batch=2048,
        weight_decay=1e-4,
    )
