"""Fields of transformers' configs, paired with those of our encoders."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mhe_jax.models.texts.encoder import ACTIVATIONS


class Architecture(NamedTuple):
    """How a transformers config describes one of our encoders.

    encoder: our name for it.
    fields: our field -> theirs.
    constants: our fields that theirs has no name for.
    required: their fields that must have this value, because we compute nothing else.
    """

    encoder: str
    fields: Mapping[str, str]
    constants: Mapping[str, Any] = {}
    required: Mapping[str, Any] = {}


_BERT = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
_TYPES = {"token_types": "type_vocab_size"}
_DISTILBERT = {
    **{name: _BERT[name] for name in ("vocab_size", "initializer_range")},
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "activation": "activation",
    "attention_dropout": "attention_dropout",
    "hidden_dropout": "dropout",
}
_XLNET = {
    **{name: _BERT[name] for name in ("vocab_size", "initializer_range", "norm_eps")},
    "hidden_size": "d_model",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "intermediate_size": "d_inner",
    "activation": "ff_activation",
    # One rate there, for which ours of the states is written.
    "attention_dropout": "dropout",
    "hidden_dropout": "dropout",
}
_MODERNBERT = {
    **{name: _BERT[name] for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")},
    "activation": "hidden_activation",
    "norm_eps": "norm_eps",
    "initializer_range": "initializer_range",
    # Theirs of the embeddings is another field, for which this one is written.
    "hidden_dropout": "mlp_dropout",
    "attention_dropout": "attention_dropout",
    "max_positions": "max_position_embeddings",
    "local_window": "local_attention",
}
# By our field: a kind of layer, whose `rope_theta` it is.
_THETAS = {"global_theta": "full_attention", "local_theta": "sliding_attention"}
_ENCODER_ONLY = {"is_decoder": False, "add_cross_attention": False}
_ROBERTA = Architecture("bert", _BERT | _TYPES, required=_ENCODER_ONLY)

# By `model_type`. Positions are `_positions`' matter.
ARCHITECTURES = {
    "bert": Architecture("bert", _BERT | _TYPES, required=_ENCODER_ONLY),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Architecture(
        "bert", _DISTILBERT, {"token_types": 0, "norm_eps": 1e-12, "drop_attention_output": False}
    ),
    "mpnet": Architecture(
        "bert",
        _BERT,
        {"token_types": 0, "relative_positions": True},
        {"pad_token_id": 1, "relative_attention_num_buckets": 32},
    ),
    "modernbert": Architecture(
        "modernbert", _MODERNBERT, required={"norm_bias": False, "attention_bias": False, "mlp_bias": False}
    ),
    "xlnet": Architecture("xlnet", _XLNET, required={"attn_type": "bi", "bi_data": False, "clamp_len": -1}),
}
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # positions are counted on from the padding's id


def encoder_fields(config: Any) -> dict[str, Any]:
    """'name' and the fields of our encoder that a transformers config describes, its own dropout included.

    Raises:
      ValueError: naming the field that makes it something else than our encoders.
    """
    kind = ARCHITECTURES[config.model_type]
    # Configs of old checkpoints may carry fields that transformers does not know any more.
    required = {**kind.required, "position_embedding_type": "absolute"}
    for name, value in required.items():
        if getattr(config, name, value) != value:
            raise ValueError(f"{name} is {getattr(config, name)!r} in config.json; only {value!r} is supported")
    values = {ours: getattr(config, theirs) for ours, theirs in kind.fields.items()}
    if values["activation"] not in ACTIVATIONS:
        raise ValueError(
            f"{kind.fields['activation']} is {values['activation']!r} in config.json; it must be one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    if kind.encoder == "bert":
        offset = config.pad_token_id + 1 if config.model_type in _AFTER_PADDING else 0
        values |= {"position_offset": offset, "max_positions": config.max_position_embeddings - offset}
    if kind.encoder == "modernbert":
        values |= _layer_kinds(config)
    return {"name": kind.encoder, **values, **kind.constants}


def _layer_kinds(config: Any) -> dict[str, Any]:
    """Which layers of a ModernBERT see the whole text, and the bases of the rotary positions of both kinds."""
    kinds = list(config.layer_types)
    every = next((place for place in range(1, len(kinds)) if kinds[place] == "full_attention"), len(kinds))
    if kinds != _layer_types(len(kinds), every):
        raise ValueError(f"layer_types is {kinds} in config.json; only every n-th layer from the first on may be full")
    for kind, parameters in config.rope_parameters.items():
        if parameters.get("rope_type", "default") != "default":
            raise ValueError(
                f"rope_parameters of {kind} are of type {parameters['rope_type']!r} in config.json; only 'default' is "
                "supported"
            )
    thetas = {ours: float(config.rope_parameters[kind]["rope_theta"]) for ours, kind in _THETAS.items()}
    return {"global_every": every, **thetas}


def _layer_types(num_layers: int, every: int) -> list[str]:
    return ["sliding_attention" if number % every else "full_attention" for number in range(num_layers)]


def huggingface_fields(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The `model_type` and the fields of the transformers config that describes one of our encoders.

    Args:
      fields: 'name' and all fields of the encoder.

    Raises:
      ValueError: if transformers has no such encoder.
    """
    if fields["name"] in ("xlnet", "modernbert"):
        model_type = fields["name"]
    elif fields["relative_positions"]:
        model_type = "mpnet"
    elif fields["position_offset"]:
        model_type = "roberta"
    else:
        model_type = "bert" if fields["token_types"] else "distilbert"
    kind = ARCHITECTURES[model_type]
    # What concerns training alone is not worth an error.
    fixed = {name: value for name, value in kind.constants.items() if name != "drop_attention_output"}
    if model_type == "mpnet":
        fixed["position_offset"] = 2
    if model_type == "roberta" and not fields["token_types"]:
        fixed["token_types"] = 1
    for name, value in fixed.items():
        if fields[name] != value:
            raise ValueError(
                f"transformers' {model_type} has {name} = {value!r}, but config.backbone's is {fields[name]!r}"
            )
    theirs = {their_name: fields[ours] for ours, their_name in kind.fields.items()} | dict(kind.required)
    if kind.encoder == "bert":
        offset = fields["position_offset"]
        theirs["max_position_embeddings"] = fields["max_positions"] + offset
        theirs["pad_token_id"] = offset - 1 if offset else 0
    if kind.encoder == "modernbert":
        theirs["embedding_dropout"] = fields["hidden_dropout"]
        theirs["layer_types"] = _layer_types(fields["num_layers"], fields["global_every"])
        theirs["rope_parameters"] = {
            of: {"rope_type": "default", "rope_theta": fields[ours]} for ours, of in _THETAS.items()
        }
        # Theirs have to be tokens of the vocabulary.
        theirs |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    return model_type, theirs
