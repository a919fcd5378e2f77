"""Parameter names of transformers' encoders, paired with ours as in `mhe_jax.interop.tables.patterns`."""

from collections.abc import Iterable

from mhe_jax.interop.tables.patterns import Rule, linear


def _norm(torch: str, ours: str) -> list[Rule]:
    """A normalisation. Old checkpoints call its parameters gamma and beta, and are read only."""
    scale, bias = (f"{ours}/scale", "same"), (f"{ours}/bias", "same")
    return [
        Rule(f"{torch}.weight", *scale),
        Rule(f"{torch}.bias", *bias),
        Rule(f"{torch}.gamma", *scale),
        Rule(f"{torch}.beta", *bias),
    ]


def _embedding(torch: str, ours: str) -> Rule:
    return Rule(f"{torch}.weight", f"{ours}/embedding", "same")


def _bert(layer: str, dense: dict[str, str], norms: dict[str, str]) -> list[Rule]:
    """An encoder of BERT's shape whose layers, dense maps and layers' normalisations have these names in torch."""
    rules = [
        _embedding("embeddings.word_embeddings", "word_embedding"),
        _embedding("embeddings.position_embeddings", "position_embedding"),
        *_norm("embeddings.LayerNorm", "embedding_norm"),
    ]
    for ours, torch in dense.items():
        rules += linear(f"{layer}.{torch}", f"layer_{{i}}/{ours}")
    for ours, torch in norms.items():
        rules += _norm(f"{layer}.{torch}", f"layer_{{i}}/{ours}")
    return rules


_MLP = {"mlp_up": "intermediate.dense", "mlp_down": "output.dense"}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"}
_BERT = {name: f"attention.self.{name}" for name in ("query", "key", "value")}
_DISTILBERT = {"query": "q_lin", "key": "k_lin", "value": "v_lin", "output": "out_lin"}
_MPNET = {"query": "q", "key": "k", "value": "v", "output": "o"}

# Torch names are below the encoder's prefix, ours below 'params/backbone'.
ENCODERS = {
    # RoBERTa, XLM-RoBERTa and CamemBERT as well.
    "bert": [
        *_bert("encoder.layer.{i}", {**_BERT, "output": "attention.output.dense", **_MLP}, _NORMS),
        _embedding("embeddings.token_type_embeddings", "token_type_embedding"),
    ],
    "distilbert": _bert(
        "transformer.layer.{i}",
        {
            **{ours: f"attention.{torch}" for ours, torch in _DISTILBERT.items()},
            "mlp_up": "ffn.lin1",
            "mlp_down": "ffn.lin2",
        },
        {"attention_norm": "sa_layer_norm", "mlp_norm": "output_layer_norm"},
    ),
    "mpnet": [
        *_bert(
            "encoder.layer.{i}",
            {**{ours: f"attention.attn.{torch}" for ours, torch in _MPNET.items()}, **_MLP},
            {**_NORMS, "attention_norm": "attention.LayerNorm"},
        ),
        _embedding("encoder.relative_attention_bias", "relative_attention_bias"),
    ],
    "modernbert": [
        _embedding("embeddings.tok_embeddings", "word_embedding"),
        *(
            Rule(f"{torch}.weight", f"{ours}/scale", "same")
            for torch, ours in (
                ("embeddings.norm", "embedding_norm"),
                ("layers.{i}.attn_norm", "layer_{i}/attention_norm"),
                ("layers.{i}.mlp_norm", "layer_{i}/mlp_norm"),
                ("final_norm", "final_norm"),
            )
        ),
        *(
            Rule(f"layers.{{i}}.{torch}.weight", f"layer_{{i}}/{ours}/kernel", "linear")
            for torch, ours in (
                ("attn.Wqkv", "qkv"),
                ("attn.Wo", "output"),
                ("mlp.Wi", "mlp_up"),
                ("mlp.Wo", "mlp_down"),
            )
        ),
    ],
    "xlnet": [
        _embedding("word_embedding", "word_embedding"),
        *(
            Rule(f"layer.{{i}}.rel_attn.{torch}", f"layer_{{i}}/{ours}/kernel", "same")
            for ours, torch in (("query", "q"), ("key", "k"), ("value", "v"), ("position", "r"))
        ),
        Rule("layer.{i}.rel_attn.o", "layer_{i}/output/kernel", "from_heads"),
        *(
            Rule(f"layer.{{i}}.rel_attn.{name}", f"layer_{{i}}/{name}", "same")
            for name in ("r_w_bias", "r_r_bias", "r_s_bias")
        ),
        Rule("layer.{i}.rel_attn.seg_embed", "layer_{i}/segment_embedding", "same"),
        *_norm("layer.{i}.rel_attn.layer_norm", "layer_{i}/attention_norm"),
        *linear("layer.{i}.ff.layer_1", "layer_{i}/mlp_up"),
        *linear("layer.{i}.ff.layer_2", "layer_{i}/mlp_down"),
        *_norm("layer.{i}.ff.layer_norm", "layer_{i}/mlp_norm"),
    ],
}

# A name that only this encoder has; what stands before it is the prefix of all. The order matters.
_MARKS = (
    ("xlnet", "word_embedding.weight"),
    ("distilbert", "transformer.layer.0.attention.q_lin.weight"),
    ("mpnet", "encoder.relative_attention_bias.weight"),
    ("modernbert", "embeddings.tok_embeddings.weight"),
    ("bert", "embeddings.word_embeddings.weight"),
)

# What checkpoints hold besides the encoder, and we have no use for: poolers, heads of pre-training and of tasks,
# buffers, XLNet's query stream. 'norm.' is the published text system's on several GPUs, which never calls it.
_IGNORED = (
    "pooler.",
    "cls.",
    "lm_head.",
    "lm_loss.",
    "head.dense.",
    "head.norm.",
    "decoder.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "classifier.",
    "pre_classifier.",
    "qa_outputs.",
    "sequence_summary.",
    "logits_proj.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "mask_emb",
    "norm.",
)


def detect_encoder(names: Iterable[str]) -> tuple[str, str] | None:
    """Which of `ENCODERS` a state dict holds, and the prefix of its names ('bert.', 'model.', ''); None if none."""
    names = list(names)
    for encoder, mark in _MARKS:
        for name in names:
            prefix = name.removesuffix(mark)
            if prefix != name and (not prefix or prefix.endswith(".")):
                return encoder, prefix
    return None


def architecture_of(paths: Iterable[str]) -> str:
    """Which of `ENCODERS` has names for all of these paths below 'params/backbone'."""
    leaves = {path.split("/", 1)[0] for path in paths}
    if "final_norm" in leaves:
        return "modernbert"
    if "position_embedding" not in leaves:
        return "xlnet"
    if "relative_attention_bias" in leaves:
        return "mpnet"
    return "bert" if "token_type_embedding" in leaves else "distilbert"


def encoder_rules(encoder: str, prefix: str) -> list[Rule]:
    """`ENCODERS[encoder]` with the full names of both sides."""
    return [Rule(prefix + rule.torch, f"params/backbone/{rule.ours}", rule.transform) for rule in ENCODERS[encoder]]


def is_ignored(name: str, prefix: str) -> bool:
    """Whether a name that no rule knows is a known one of something else than the encoder.

    It may stand beside the encoder, or beside any of what holds it: `model.cls.` where the prefix is `model.bert.`.
    """
    parts = prefix.split(".")[:-1]
    outer = ["".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts) + 1)]
    return any(name.startswith(held) and name.removeprefix(held).startswith(_IGNORED) for held in outer)
