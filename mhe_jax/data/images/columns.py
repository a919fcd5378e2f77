"""The columns of a table of pictures: which hold pictures and labels, and what the table knows of its classes."""

import json
from typing import Any, NamedTuple

from mhe_jax.data.dataset import DataError

IMAGES, LABELS = ("image", "img", "picture", "jpg", "png"), ("label", "cls", "class")


class Columns(NamedTuple):
    """Of one file, or of all: they must agree.

    in_structs: whether the column of pictures holds structs of Hugging Face, {bytes, path}, and not bytes.
    kind: of the labels, 'integers' or 'strings'.
    class_names: of the integers, by Hugging Face's ClassLabel; else empty.
    """

    image: str
    in_structs: bool
    label: str
    kind: str
    class_names: tuple[str, ...]

    def __str__(self) -> str:
        names = f" with {len(self.class_names)} names" if self.class_names else ""
        return f"{self.image!r}{' in structs' if self.in_structs else ''} and {self.label!r} of {self.kind}{names}"


def find_columns(path: str, schema: Any, image_key: str, label_key: str) -> Columns:
    """The columns of a pyarrow schema.

    Args:
      path: for messages.
      schema: of the file, perhaps with what Hugging Face's `datasets` tells of it.
      image_key: the column of pictures, or '' for the first of `IMAGES`, or the only one of Hugging Face's type Image.
      label_key: the column of labels, or '' for the first of `LABELS`, or the only ClassLabel.

    Raises:
      DataError: if there is no such column, or one holds something else.
    """
    features = _hugging_face_features(path, schema)
    image = _chosen(path, schema, "image_key", image_key, IMAGES, _typed(features, "Image"))
    label = _chosen(path, schema, "label_key", label_key, LABELS, _typed(features, "ClassLabel"))
    return Columns(image, _in_structs(path, image, schema), label, _kind(path, label, schema), _names(features, label))


def _chosen(path: str, schema: Any, field: str, asked: str, usual: tuple[str, ...], typed: list[str]) -> str:
    there = ", ".join(map(repr, schema.names))
    if asked:
        if asked not in schema.names:
            raise DataError(f"config.data.{field} is {asked!r}, but {path} has the columns {there}")
        return asked
    found = [name for name in usual if name in schema.names][:1] or typed
    if len(found) != 1:
        raise DataError(f"{path} has the columns {there}; set config.data.{field} to one, as none is {usual[0]!r}")
    return found[0]


def _in_structs(path: str, image: str, schema: Any) -> bool:
    import pyarrow.types as kinds

    kind = schema.field(image).type
    is_bytes = lambda kind: kinds.is_binary(kind) or kinds.is_large_binary(kind)
    if is_bytes(kind):
        return False
    if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type):
        return True
    raise DataError(f"{path}: the column {image!r} is {kind}; it must hold the bytes of pictures")


def _kind(path: str, label: str, schema: Any) -> str:
    import pyarrow.types as kinds

    kind = schema.field(label).type
    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    if kinds.is_integer(kind):
        return "integers"
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return "strings"
    raise DataError(f"{path}: the column {label!r} is {kind}; labels must be integers or strings")


def _hugging_face_features(path: str, schema: Any) -> dict[str, Any]:
    """What `datasets` knows of each column, from the file's own metadata."""
    told = (schema.metadata or {}).get(b"huggingface")
    if told is None:
        return {}
    try:
        features = json.loads(told)["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: what Hugging Face's datasets tells of its columns is damaged") from None


def _typed(features: dict[str, Any], kind: str) -> list[str]:
    return [name for name, told in features.items() if isinstance(told, dict) and told.get("_type") == kind]


def _names(features: dict[str, Any], label: str) -> tuple[str, ...]:
    told = features.get(label)
    names = told.get("names") if isinstance(told, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else ()
