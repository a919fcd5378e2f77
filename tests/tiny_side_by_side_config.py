"""Runs of seconds on words beside features, `features`, or beside a small encoder, `encoder`; paths are to be set."""

from mhe_jax.recipes import bag


def get_config(arg="features", head="ohe"):
    config = bag.make(head, arg)
    config.head.head_sizes = () if head == "ohe" else (4, 3)
    config.codes = {"name": "identity", "path": "", "epochs": 2.0}
    config.data.valid_examples, config.data.bucket_lengths = 0.0, (4, 8)
    config.backbone.bag.features_dim = 16
    if arg == "encoder":
        config.data.max_length = 12
        config.backbone.network = {
            "name": "bert",
            "vocab_size": 0,
            "hidden_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "intermediate_size": 32,
            "max_positions": 16,
            "pooling": "mean",
        }
    config.total_steps, config.global_batch_size, config.log_every_steps = 12, 16, 4
    config.eval_every_steps = config.checkpoint_every_steps = 6
    return config
