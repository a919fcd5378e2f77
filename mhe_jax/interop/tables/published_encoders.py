"""Sizes of well-known text encoders by their hub ids, so that they can be described without files or network.

As the config.json of each checkpoint gives them; `encoder_fields` makes the same of that file.
"""

from typing import Any

_BERT = {
    "name": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_layers": 12,
    "num_heads": 12,
    "intermediate_size": 3072,
    "activation": "gelu",
    "norm_eps": 1e-12,
    "initializer_range": 0.02,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "max_positions": 512,
    "position_offset": 0,
    "token_types": 2,
}
_ROBERTA = {**_BERT, "vocab_size": 50265, "norm_eps": 1e-5, "position_offset": 2, "token_types": 1}
_XLNET = {
    name: value
    for name, value in {**_BERT, "name": "xlnet", "vocab_size": 32000}.items()
    if name not in ("max_positions", "position_offset", "token_types")
}
_LARGE = {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "intermediate_size": 4096}
_MINILM = {**_BERT, "hidden_size": 384, "num_layers": 6, "intermediate_size": 1536}

_MODERNBERT = {
    "name": "modernbert",
    "vocab_size": 50368,
    "hidden_size": 768,
    "num_layers": 22,
    "num_heads": 12,
    "intermediate_size": 1152,
    "activation": "gelu",
    "norm_eps": 1e-5,
    "initializer_range": 0.02,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "max_positions": 8192,
    "local_window": 128,
    "global_every": 3,
    "global_theta": 160_000.0,
    "local_theta": 10_000.0,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "bert-base-uncased": _BERT,
    "bert-base-cased": {**_BERT, "vocab_size": 28996},
    "bert-large-uncased": {**_BERT, **_LARGE},
    "roberta-base": _ROBERTA,
    "roberta-large": {**_ROBERTA, **_LARGE},
    "xlnet-base-cased": _XLNET,
    "xlnet-large-cased": {**_XLNET, **_LARGE},
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    "answerdotai/ModernBERT-base": _MODERNBERT,
    "answerdotai/ModernBERT-large": {**_MODERNBERT, **_LARGE, "num_layers": 28, "intermediate_size": 2624},
}
# The organisations under which the hub lists what was published without one.
_OWNERS = {"bert": "google-bert", "roberta": "FacebookAI", "xlnet": "xlnet"}
PUBLISHED |= {
    f"{_OWNERS[name.split('-')[0]]}/{name}": fields for name, fields in list(PUBLISHED.items()) if "/" not in name
}
