"""Names of Unicode characters, and what is known of each: category, script, block, words of the block, decomposition.

Needs no download: some 30,000 short texts, a WordPiece vocabulary trained on the names, and an encoder of two layers
from scratch. Head: a cascade; `:ohe` for one logit per label.

No published figure. Expected: docs/results.md (this project's measurement); the popularity baseline is in result.json.
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/xmc_unicode.py
"""

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.recipes.texts import HEADS


def get_config(arg=""):
    sizes, words = parse(arg, "sparse", "smoke", *HEADS)
    head = one_of(words, HEADS, "heads", "mhc")
    config = base_config()
    config.data = {
        "name": "unicode",
        "num_classes": 0,
        # Empty: a WordPiece vocabulary is trained on the names.
        "tokenizer": "",
        "vocab_size": 4096,
        "max_length": 32,
        "valid_examples": 3000.0,
        "max_eval": 0,
        "sort_window": 50,
        "propensity": DEFAULT,
        "last_batch": "drop",
        "cache_dir": "",
    }
    config.backbone = {
        "name": "bert",
        # 0: as many as the tokenizer has.
        "vocab_size": 0,
        "hidden_size": 128,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 256,
        "max_positions": 32,
        "hidden_dropout": 0.1,
        "attention_dropout": 0.0,
        "pooling": "mean",
        "feature_layers": 1,
        "feature_dropout": 0.1,
        "remat": False,
    }
    config.head = HEADS[head](sizes)
    if head == "mhc":
        config.head.update(reduction="mean", num_candidates=10)  # as measured
    config.optimizer = {"name": "adamw", "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "decay_all": False}
    config.schedule = {"name": "cosine", "learning_rate": 2e-3, "warmup_epochs": 0.5, "per_epoch": False}
    config.total_epochs, config.global_batch_size = 8.0, 128
    config.steps_per_dispatch = 1
    if "sparse" in words:
        config.table_optimizer = dict(heads.SPARSE_TABLES)
    if "smoke" in words:
        config.data.update(max_length=16, valid_examples=50, max_eval=50)
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
        config.eval_every_steps = config.checkpoint_every_steps = 2
    return config
