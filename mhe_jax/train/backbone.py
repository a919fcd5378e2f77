"""What `config.backbone` leaves open, by the data and by a pretrained checkpoint: sizes, and weights to start from."""

from typing import Any

from ml_collections import ConfigDict

from mhe_jax.data.build import Data
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.tokens_and_words import TokensAndWords
from mhe_jax.interop import huggingface
from mhe_jax.models import BACKBONES, ENCODERS, ON_FEATURES, ON_SPARSE, SIDE_BY_SIDE
from mhe_jax.settings import Settings


def backbone_section(settings: Settings, data: Data, check_tokenizer: bool = True) -> ConfigDict:
    """`config.backbone` with all sizes: a pretrained checkpoint's, the tokenizer's vocabulary, the width of features.

    Without `check_tokenizer` one that a checkpoint's sizes make unnecessary is not read.

    Raises:
      ValueError: if there is no such checkpoint, the tokenizer is of another one, or the data is not for this backbone.
    """
    section, where, kind = settings.backbone.copy_and_resolve_references(), "config.backbone", settings.data.name
    if isinstance(data, EmbeddedWords | TokensAndWords):
        _require(section, SIDE_BY_SIDE, where, kind)
        for part in ("network", "bag"):
            if not isinstance(section.get(part), ConfigDict):
                raise ValueError(f"{where}.{part} is missing: 'side_by_side' is made of a network and a bag")
        if isinstance(data, EmbeddedWords):
            _require(section.network, ON_FEATURES, f"{where}.network", kind)
            _accept_width(section.network, data.embedding_dim, f"{where}.network")
        else:
            _require(section.network, (*ENCODERS, *huggingface.PRETRAINED), f"{where}.network", kind)
            section.network = _encoder_section(section.network, data, f"{where}.network", check_tokenizer)
        _require(section.bag, ON_SPARSE, f"{where}.bag", kind)
        _accept_width(section.bag, data.features_dim, f"{where}.bag")
    elif isinstance(data, TextData):
        _require(section, (*ENCODERS, *huggingface.PRETRAINED), where, kind)
        section = _encoder_section(section, data, where, check_tokenizer)
    elif isinstance(data, FeatureData | SparseData):
        _require(section, ON_FEATURES if isinstance(data, FeatureData) else ON_SPARSE, where, kind)
        _accept_width(section, data.features_dim, where)
    else:
        _require(section, BACKBONES, where, kind)
    return section


def pretrained(section: ConfigDict, params: Any) -> Any:
    """The parameters of a backbone, `params` or shapes of them, with a pretrained encoder's in their place."""
    if section.name in huggingface.PRETRAINED:
        return huggingface.load_encoder(section.checkpoint, params)
    if section.name in SIDE_BY_SIDE:
        return {**params, "network": pretrained(section.network, params["network"])} if "network" in params else params
    return params


def has_weights(config: ConfigDict | Settings) -> bool:
    """Whether the backbone of a run begins with weights from elsewhere, rather than at random."""
    if config.init_from and "backbone" in config.init_parts:
        return True
    return config.backbone.name in huggingface.PRETRAINED


def is_identity(section: ConfigDict) -> bool:
    """Whether a backbone hands on the features of the data, perhaps scaled, and has no layer of its own."""
    return section.name == "identity" and not section.get("hidden_dims")


def _require(section: ConfigDict, names: Any, where: str, data: str) -> None:
    if section.get("name") not in names:
        raise ValueError(
            f"{where}.name is {section.get('name')!r}, but config.data.name {data!r}, whose examples go through "
            f"{' or '.join(map(repr, names))}"
        )


def _encoder_section(section: ConfigDict, data: TextData, where: str, check_tokenizer: bool) -> ConfigDict:
    """That of an encoder of texts, a pretrained one spelt out, with the size of the vocabulary."""
    loaded = section.name in huggingface.PRETRAINED
    if loaded:
        section = huggingface.encoder_section(section, where)
    if not section.get("vocab_size", 1):
        section.vocab_size = data.vocab_size
    if check_tokenizer or not loaded:
        huggingface.check_vocabulary(data.vocab_size, section.vocab_size, f"{where}.vocab_size")
    if data.max_length > section.get("max_positions", data.max_length):
        raise ValueError(
            f"config.data.max_length is {data.max_length} but the encoder has {section.max_positions} positions "
            f"({where}.max_positions)"
        )
    return section


def _accept_width(section: ConfigDict, width: int, where: str) -> None:
    """Sets input_dim; raises ValueError if it is another one already."""
    given = section.get("input_dim", 0)
    if given not in (0, width):
        raise ValueError(f"{where}.input_dim is {given}, but features have {width}: leave it at 0")
    with section.unlocked():
        section.input_dim = width
