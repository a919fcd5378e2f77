"""Verification without a download: drawn characters in place of faces, 500 of them never trained on.

Which of two drawings show one character? The pairs are of held-out characters in twelve typefaces: `glyphs`, against
random others, and `glyphs_hard`, against the characters that look most alike. Variants: `:full` (default), `:mhs`,
`:partial`, `:mhp`, `:mhc`.

No published figure. Expected: the glyph table in the section on faces of docs/results.md (this project's
measurement). Hardware: two CPU cores, some minutes.

    python main.py --config=configs/arcface_glyphs.py
"""

from mhe_jax.recipes import faces, glyphs, heads
from mhe_jax.recipes.base import base_config


def get_config(arg=""):
    margin = heads.margin("arcface", scale=32.0, m=0.3)
    section, words, variant = faces.head(arg, "full", (0, 4), margin)
    config = base_config()
    config.data = {
        "name": "face_glyphs",
        "num_classes": 0,
        "image_size": 32,
        "held_out_classes": 500,
        "num_pairs": 3000,
        "augmentation": 0.5,
        "noise": 0.02,
        "seed": 0,
        "last_batch": "drop",
    }
    config.head = section
    config.update(glyphs.recipe())
    config.backbone.activate_features = False
    if rule := faces.tables(variant, words, heads.SPARSE_TABLES):
        config.table_optimizer = {**rule, "weight_decay": 0.05}
    config.total_epochs = 12.0
    if "smoke" in words:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 16, 1
        config.data.update(held_out_classes=50, num_pairs=20)
    return config
