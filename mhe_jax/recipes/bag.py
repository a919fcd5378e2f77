"""What the configs of sparse features share: words of texts, or features from files, a bag of embeddings, a head.

Argument string: head sizes such as 40x25, at most one of `sparse` for features from files, `features` for those that
`mhe embed` made of the documents beside their words and `encoder` for an encoder beside the words that is trained with
them, `single` for documents with one label each, `smoke`.
"""

from ml_collections import FieldReference

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import adamw, base_config
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.recipes.texts import CHECKPOINTS

# Similar labels share digits, by the sums of the features of their rows.
LABELS = {"name": "labels", "path": "", "epochs": 2.0}
# How texts become features: words that two documents have, by their TF-IDF. Columns are those of CSV, TSV and Parquet;
# empty: found by the usual names.
WORDS = {
    "text_column": "",
    "label_column": "",
    "label_separator": "",
    "analyzer": "word",
    "ngrams": (1, 1),
    "min_documents": 2,
    "max_vocabulary": 0,
    "hashed": 0,
    "vectorizer": "",
}


def make(head, arg):
    """The config of one head, by its argument string."""
    sizes, flags = parse(arg, "sparse", "features", "encoder", "single", "smoke")
    one_of(flags, ("sparse", "features", "encoder"), "kinds of data")
    config = base_config()
    config.data = {
        "name": "sparse" if "sparse" in flags else "words",
        "path": "data",
        # 0: those of the files; another number is checked against them.
        "features_dim": 0,
        "num_classes": 0,
        # The features of a row of the largest magnitude; of one that has more, the others are left out.
        "max_row_features": 512,
        "valid_examples": 0.05,
        "sort_window": 50,
        "bucket_lengths": (),
        "label_width": 0,
        "propensity": DEFAULT,
        "max_train": 0,
        "max_eval": 0,
        "last_batch": "drop",
        "single_label": "single" in flags,
    }
    if "sparse" not in flags:
        config.data.update(dict(WORDS))
    config.backbone = {
        "name": "bag",
        "features_dim": 256,
        "unit_rows": True,
        "init_scale": 0.1,
        "residual": False,
        "feature_dropout": 0.0,
        "dropout": 0.3,
    }
    config.head = (heads.ONE_CLASS if "single" in flags else heads.MANY_LABELS)[head](sizes)
    config.optimizer = adamw(weight_decay=0.0)
    config.schedule = {
        "name": "cosine",
        "learning_rate": 0.02,
        "end_learning_rate": 0.0,
        "warmup_epochs": 0.5,
        "per_epoch": False,
    }
    # 0: by the number of rows, up to 256, and the rate with it.
    config.global_batch_size = 0
    config.total_epochs, config.eval_every_epochs, config.checkpoint_every_epochs = 8.0, 2.0, 2.0
    if head == "mhc":
        config.codes = dict(LABELS)
        if not flags & {"features", "encoder", "single"}:
            # A row is multiplied with a map that learns too: at the bag's rate, or without the limit, the loss rises
            # again and again (docs/log.md).
            config.optimizer.head_rate = 0.3
            config.clip = {"name": "norm", "norm": 1.0, "parts": ("backbone", "head")}
    if "features" in flags:
        beside_features(config)
    if "encoder" in flags:
        beside_encoder(config)
    if "smoke" in flags:
        config.data.valid_examples = 0.0
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
    return config


def beside_features(config):
    """Puts features that an encoder made before beside the words, with the rate and the decay that suit them."""
    config.data.update(name="features_words", features="features", embedding_dim=0)
    # Features come at any scale.
    identity = {"name": "identity", "layer_norm": True, "hidden_dims": (), "l2_normalize": False, "dropout": 0.0}
    config.backbone = {"name": "side_by_side", "network": identity, "bag": config.backbone, "part_length": 0.0}
    config.optimizer.update(weight_decay=0.05, bag_rate=1.0)
    config.schedule.update(learning_rate=0.005, warmup_epochs=1.0)


def beside_encoder(config):
    """Puts an encoder beside the words that starts from a checkpoint, at the rates of `mhe_jax.recipes.texts`."""
    checkpoint = FieldReference(CHECKPOINTS["minilm"])
    # That of the checkpoint as long as no other is set, which leaves the encoder as it is.
    tokenizer = {"tokenizer": checkpoint.identity(), "max_length": 128, "text_rule": "raw", "cache_dir": ""}
    config.data.update(name="xmc_words", **tokenizer)
    encoder = {
        "name": "pretrained",
        "checkpoint": checkpoint,
        "pooling": "mean",
        "feature_layers": 1,
        "feature_dropout": 0.1,
        # Negative: as the checkpoint says.
        "hidden_dropout": -1.0,
        "attention_dropout": -1.0,
        "remat": False,
    }
    config.backbone = {"name": "side_by_side", "network": encoder, "bag": config.backbone, "part_length": 0.0}
    config.optimizer.update(weight_decay=0.01, head_rate=30.0, bag_rate=50.0)
    config.schedule.update(learning_rate=1e-4, warmup_epochs=0.1)
    config.global_batch_size = 64
    # A step of an encoder is long enough to hide the host.
    config.steps_per_dispatch = 1
