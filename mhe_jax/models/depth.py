"""How deep the parts of a backbone lie: its layers are numbered in the names of its parameters."""

import dataclasses
import re
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class _Structure:
    """Parts of a kind of backbone by the first names of their parameters' paths.

    below: what comes before the layers, as embeddings and the stem do.
    layer: a layer, with its number; blocks of one stage of a network for pictures are one layer.
    above: what comes after them.
    """

    below: frozenset[str]
    layer: re.Pattern[str]
    above: frozenset[str]

    def distances(self, names: list[str]) -> dict[str, int] | None:
        """As `distances_from_top`; None if another name is among them, or no layer."""
        numbers = {name: int(found[1]) for name in names if (found := self.layer.fullmatch(name))}
        if not numbers or not set(names) <= self.below | self.above | set(numbers):
            return None
        first, last = min(numbers.values()), max(numbers.values())
        distances = {name: last - number for name, number in numbers.items()}
        outside = {name: last - first + 1 if name in self.below else 0 for name in names if name not in numbers}
        return distances | outside


def _structure(below: str, layer: str, above: str = "") -> _Structure:
    return _Structure(frozenset(below.split()), re.compile(layer), frozenset(above.split()))


_STRUCTURES = (
    # BERT and its relatives, ModernBERT, XLNet.
    _structure(
        "word_embedding position_embedding token_type_embedding embedding_norm relative_attention_bias",
        r"layer_(\d+)",
        "final_norm",
    ),
    # ResNets, IResNet.
    _structure("conv1 bn1 prelu", r"layer(\d+)_\d+", "bn2 fc features"),
    # MobileFaceNet.
    _structure("stem stem_grouped", r"stage(\d+)_(?:\d+|down)", "last places places_bn embedding embedding_bn"),
    # ViT, FaceViT.
    _structure(
        "patch class_token positions",
        r"block_(\d+)",
        "norm mask_token features_1 features_1_bn features_2 features_2_bn",
    ),
    # ConvNeXt.
    _structure("stem stem_norm", r"stage(\d+)_(?:\d+|down|down_norm)", "norm"),
    # ConvNet.
    _structure("", r"(?:dense|bn)(\d+)", "dense_features bn_features"),
    # Identity with dense layers.
    _structure("norm", r"hidden_(\d+)"),
)


def distances_from_top(names: Iterable[str]) -> dict[str, int]:
    """How many layers lie above each part of a backbone: 0 for the last layer and what comes after it.

    Args:
      names: the first names of all its parameters' paths.

    Returns:
      the distance of each; what comes before the first layer is one further away than it.

    Raises:
      ValueError: if these are not the names of a backbone whose layers are known.
    """
    listed = sorted(names)
    for structure in _STRUCTURES:
        if (found := structure.distances(listed)) is not None:
            return found
    raise ValueError(f"it is not known which of the backbone's parts are its layers: {', '.join(listed) or 'none'}")
