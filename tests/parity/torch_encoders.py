"""Small transformers models with random weights, and batches of unequal length. Only tests import this module."""

import numpy as np
import torch
import transformers

VOCAB, LAYERS = 41, 3
LENGTHS = (11, 7, 1, 5, 10)
_SIZES = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 3}
_BERT = {**_SIZES, "intermediate_size": 37, "max_position_embeddings": 19}
_MODERNBERT = {**_SIZES, "num_attention_heads": 2, "intermediate_size": 37, "max_position_embeddings": 19}
_MODERNBERT |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
_XLNET = {"vocab_size": VOCAB, "d_model": 24, "n_layer": LAYERS, "n_head": 3, "d_inner": 37}
_DISTILBERT = {"vocab_size": VOCAB, "dim": 24, "n_layers": LAYERS, "n_heads": 3, "hidden_dim": 37}

CONFIGS = {
    "bert": lambda: transformers.BertConfig(**_BERT),
    "bert-gelu_new": lambda: transformers.BertConfig(**_BERT, hidden_act="gelu_new", layer_norm_eps=1e-3),
    "roberta": lambda: transformers.RobertaConfig(**_BERT, type_vocab_size=1, layer_norm_eps=1e-5),
    "distilbert": lambda: transformers.DistilBertConfig(**_DISTILBERT, max_position_embeddings=19),
    "mpnet": lambda: transformers.MPNetConfig(**_BERT, layer_norm_eps=1e-5),
    # Windows of 2 and 3 tokens on each side, where texts have up to 11, and one that holds them all.
    "modernbert": lambda: transformers.ModernBertConfig(**_MODERNBERT, local_attention=4),
    "modernbert-other": lambda: transformers.ModernBertConfig(
        **_MODERNBERT, local_attention=6, global_attn_every_n_layers=2, norm_eps=1e-3, hidden_activation="relu"
    ),
    "modernbert-wide": lambda: transformers.ModernBertConfig(
        **_MODERNBERT, local_attention=40, global_rope_theta=500.0, local_rope_theta=70.0
    ),
    "xlnet": lambda: transformers.XLNetConfig(**_XLNET),
}


def torch_encoder(name, seed=0):
    """A model in evaluation whose biases, normalisations and attention are not the trivial ones it starts with."""
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def batch(pad_id=0, seed=0):
    """Token ids int32 [5, 11], padded on the right, and their lengths. Ids below 5 are special and do not occur."""
    ids = np.random.default_rng(seed).integers(5, VOCAB, (len(LENGTHS), max(LENGTHS))).astype(np.int32)
    lengths = np.array(LENGTHS, np.int32)
    return np.where(real_tokens(lengths), ids, pad_id), lengths


def real_tokens(lengths):
    return np.arange(lengths.max())[None, :] < lengths[:, None]


def torch_states(model, ids, lengths):
    """All hidden states of a transformers model, as the published text system calls it: all tokens of type 0."""
    inputs = {
        "input_ids": torch.from_numpy(ids).long(),
        "attention_mask": torch.from_numpy(real_tokens(lengths)).long(),
    }
    if model.config.model_type not in ("distilbert", "mpnet", "modernbert"):
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return model(**inputs, output_hidden_states=True).hidden_states


def torch_pool(states, lengths, pooling):
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(lengths)), torch.from_numpy(lengths).long() - 1]
    real = torch.from_numpy(real_tokens(lengths)).to(states.dtype)[:, :, None]
    return (states * real).sum(1) / real.sum(1)
