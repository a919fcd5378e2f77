"""What the text configs share: a pretrained encoder, a head for many labels, and the published recipe.

Argument string: an encoder (`bert`, `roberta`, `xlnet`, `modernbert`, `minilm`), a head (`mhc`, `ohe`, `mhp`, `mhs`),
head sizes such as 172x23, `sparse` to update only the rows of a label table that a step uses, `reference` for the
published settings, `single` for documents with one label each, `smoke` for two steps on whatever small data is given.
"""

from ml_collections import FieldReference

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config
from mhe_jax.recipes.propensity import DEFAULT

# A folder with config.json, tokenizer and model.safetensors will do instead: --config.backbone.checkpoint=DIR.
CHECKPOINTS = {
    "bert": "bert-base-uncased",
    "roberta": "roberta-base",
    "xlnet": "xlnet-base-cased",
    "modernbert": "answerdotai/ModernBERT-base",
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
}
HEADS = heads.MANY_LABELS


def recipe(*, epochs, batch, max_length, swa, eval_step=0, candidates=10, hidden=300, valid=0):
    """The settings of one data set and encoder, as the published scripts give them.

    Args:
      epochs: passes over the training documents.
      batch: documents per step.
      max_length: tokens per document.
      swa: first averaged epoch, and steps between averaged weights.
      eval_step: steps between evaluations inside an epoch; 0: after each epoch only.
      candidates: groups whose labels are scored.
      hidden: width of the label embeddings.
      valid: documents held out to choose the best weights; 0: the published scripts choose on the test set.
    """
    return dict(
        epochs=epochs,
        batch=batch,
        max_length=max_length,
        swa=swa,
        eval_step=eval_step,
        candidates=candidates,
        hidden=hidden,
        valid=valid,
    )


def make(arg, *, data, recipes, head_sizes, encoder="bert", head="mhc", own_valid=0, large=False):
    """The config of a data set.

    Args:
      arg: the argument string.
      data: fields of `config.data` that are its own: path, num_classes, propensity, ...
      recipes: `recipe(...)` by encoder; an encoder without one takes that of `encoder`.
      head_sizes: groups and labels per group.
      encoder: the default one.
      head: the default one.
      large: whether outside reference mode the loss moves the tables itself, by the rule of all else, in bfloat16; the
        argument `dense` leaves them to `config.optimizer`, and `sparse` moves the used rows alone.
      own_valid: documents, or below 1 their share, held out outside reference mode where the published recipe has none.
    """
    sizes, words = parse(arg, "reference", "dense", "sparse", "single", "smoke", *CHECKPOINTS, *HEADS)
    default, encoder = encoder, one_of(words, CHECKPOINTS, "encoders", encoder)
    head = one_of(words, HEADS, "heads", head)
    chosen, reference = recipes.get(encoder, recipes[default]), "reference" in words
    checkpoint = FieldReference(CHECKPOINTS[encoder])
    # The other encoders' rates are the published ones; those of minilm were measured, see docs/results.md.
    head_rate, feature_dropout = (30.0, 0.1) if encoder == "minilm" and not reference else (1.0, 0.5)

    config = base_config()
    config.data = {
        "name": "xmc",
        "num_classes": 0,
        # That of `backbone.checkpoint` as long as no other is set, which leaves the encoder as it is.
        "tokenizer": checkpoint.identity(),
        "max_length": chosen["max_length"],
        # Stands before every text.
        "prefix": "",
        # The published rule lower-cases, cuts at white space, and keeps the first max_length words.
        "text_rule": "reference" if reference else "raw",
        "valid_examples": float(chosen["valid"] if reference else chosen["valid"] or own_valid),
        # Documents of like length share a batch; 1: batches as they are drawn.
        "sort_window": 1 if reference else 50,
        "bucket_lengths": (),
        "label_width": 0,
        "propensity": DEFAULT,
        "max_train": 0,
        "max_eval": 0,
        "single_label": "single" in words,
        "last_batch": "keep" if reference else "drop",
        "cache_dir": "",
        **data,
    }
    config.backbone = {
        "name": "pretrained",
        "checkpoint": checkpoint,
        # XLNet's <cls> is its last token; the published system reads the first all the same.
        "pooling": "last" if encoder == "xlnet" and not reference else "mean" if encoder == "minilm" else "first",
        # Of ModernBERT's layers the last alone is normalised.
        "feature_layers": 1 if encoder in ("minilm", "modernbert") else 5,
        "l2_normalize": False,
        "feature_dropout": feature_dropout,
        # Negative: as the checkpoint says.
        "hidden_dropout": -1.0,
        "attention_dropout": -1.0,
        "remat": False,
    }
    sections = heads.ONE_CLASS if "single" in words else heads.MANY_LABELS
    config.head = sections[head](sizes or head_sizes if head != "ohe" else ())
    if head == "mhc" and "single" not in words:
        config.head.update(num_candidates=chosen["candidates"], hidden_dim=chosen["hidden"])
    if reference and "single" not in words:
        config.head.update(heads.XMC_REFERENCE[head])
    config.optimizer = {
        "name": "adamw",
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-6,
        "weight_decay": 0.01,
        "decay_all": False,
        # By name, as published: XLNet's normalisations are decayed.
        "no_decay": (("bias",) if encoder == "xlnet" else ("bias", "norm/scale")) if reference else (),
        "decay_after": reference,
        "head_rate": head_rate,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "unfreeze_steps": (),
    }
    rate = {"learning_rate": 1e-4, "warmup_epochs": 0.0, "per_epoch": False}
    linear = {"name": "poly", "power": 1.0, **rate, "warmup_epochs": 0.1}
    config.schedule = {"name": "constant", **rate} if reference else linear
    start, every = chosen["swa"]
    config.average = {"name": "swa", "start_epoch": start, "every_steps": every}
    config.total_epochs, config.global_batch_size = float(chosen["epochs"]), chosen["batch"]
    config.checkpoint_every_steps = chosen["eval_step"]
    # The published evaluations inside an epoch are printed and choose nothing: the best weights are those of an epoch's
    # end. What they do to the rest of the epoch is the dropout's field.
    config.eval_every_steps = 0 if reference else chosen["eval_step"]
    config.dropout_off_after_step = chosen["eval_step"] if reference else 0
    config.dtype = "float32" if reference else "bfloat16"
    config.matmul_precision = "highest" if reference else "default"
    of_tables = one_of(words, ("dense", "sparse"), "table optimizers")
    if of_tables == "sparse":
        config.table_optimizer = dict(heads.SPARSE_TABLES)
    elif large and not reference and of_tables is None and head != "mhp":
        config.table_optimizer = {**heads.OWNED_ADAMW, "eps": config.optimizer.eps, "rate": head_rate}
    # A step of an encoder is long enough to hide the host, and documents of different lengths share no program.
    config.steps_per_dispatch = 1
    config.seed = 6088 if reference else 0
    if "smoke" in words:
        config.data.update(num_classes=0, valid_examples=0, max_length=16)
        config.head.head_sizes = ()
        config.average.update(start_epoch=0, every_steps=1)
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
        config.eval_every_steps = config.checkpoint_every_steps = config.dropout_off_after_step = 0
        config.dtype = "float32"
    return config
