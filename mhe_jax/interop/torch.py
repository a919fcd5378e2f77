"""PyTorch state dicts of the reference's models, and of others' backbones, to and from our variables."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mhe_jax.interop.class_rows import in_order
from mhe_jax.interop.state_files import read_checkpoint as read_checkpoint
from mhe_jax.interop.tables import encoders, faces, patterns, pictures
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.ops.storage import Scaled, store, widen

PARTS = ("backbone", "head")

_IMAGE_LAYOUTS = patterns.BACKBONES | pictures.BACKBONES | faces.BACKBONES

# The published text system on one GPU and on several: the prefix of its encoder, and its heads in `patterns.HEADS`.
_TEXT_LAYOUTS = {
    "reference_text": ("bert.", {"ohe": "text_ohe", "mhc": "text_mhc"}),
    "reference_text_multi_gpu": ("model.", {"mhc": "text_mhc_multi_gpu"}),
}


def import_state_dict(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    parts: Sequence[str] = PARTS,
    label_space: LabelSpace | None = None,
    codes: LabelCodes | None = None,
) -> dict[str, Any]:
    """Variables of a model with the values of a state dict, whose layout is recognised by its names.

    Args:
      state_dict: arrays by torch name, of the model or of what holds it as `model`, as a LightningModule does, whose
        other names are ignored then. `num_batches_tracked`, and what text encoders have besides (poolers, heads of
        their pre-training), are ignored.
      variables: {'params': {'backbone', 'head'}, 'batch_stats'}, arrays or ShapeDtypeStructs, boxed or not: what the
        result looks like.
      parts: what to take from the state dict, 'backbone' and/or 'head'. The other part of `variables` is returned as
        it is, and its names in the state dict are ignored.
      label_space: of the head; needed if its tables are padded with rows, which then become zeros, and for the cascade
        of the published text system.
      codes: of the classes here, to which rows of classes are moved; None: codes are ids, as they are in torch.

    Returns:
      unboxed variables, NumPy arrays where imported.

    Raises:
      ValueError: for names that are missing, unexpected, have another shape, or hold numbers that are not finite; for
        codes that are not ids, and a head whose weights belong to digits.
    """
    _check_parts(parts)
    state_dict = _of_attribute(state_dict)
    flat = traverse_util.flatten_dict(nn.unbox(dict(variables)), sep="/")
    rules, is_ignored = _layout(state_dict, parts, flat)
    missing = {path for path in flat if _part(path) in parts}
    unexpected, misshaped, not_finite = [], [], []
    backbone_fits = True
    for name, array in state_dict.items():
        found = patterns.translate(name, rules, to="ours")
        if found is None and is_ignored(name):
            continue
        if (_part(found[0]) if found else "backbone") not in parts:
            continue
        if not found or found[0] not in flat:
            unexpected.append(name)
            backbone_fits &= found is not None and _part(found[0]) == "head"
            continue
        path, shape = found[0], tuple(flat[found[0]].shape)
        missing.discard(path)
        values = _to_ours(np.asarray(array), patterns.TRANSFORMS[found[1]], path, shape, label_space)
        if values is None:
            misshaped.append(f"{name} {np.shape(array)} for {path} {shape}")
            backbone_fits &= _part(path) == "head"
            continue
        if not np.isfinite(values).all():
            not_finite.append(name)
        if _part(path) == "head" and codes is not None and codes.id_of_code is not None:
            _require_rows(path, found[1], name)
            values = in_order(values, codes.id_of_code)
        is_scaled, dtype = isinstance(flat[path], Scaled), flat[path].dtype
        flat[path] = store(jnp.asarray(values), "float8") if is_scaled else np.ascontiguousarray(values, dtype=dtype)
    problems = {"missing": sorted(missing), "unexpected": unexpected, "of another shape": misshaped}
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        # Another number of classes makes another head, and fine-tuning wants a new one then.
        backbone_fits &= all(_part(path) == "head" for path in missing) and "backbone" in parts
        hint = "; the backbone fits, and init_parts = ('backbone',) takes it alone" if backbone_fits else ""
        raise ValueError(f"the state dict does not fit the model: {listed}{hint}")
    if not_finite:
        raise ValueError(f"{len(not_finite)} arrays of the state dict are not finite: {_first(not_finite)}")
    return {**{name: {} for name in variables}, **traverse_util.unflatten_dict(flat, sep="/")}


def export_state_dict(
    variables: Mapping[str, Any],
    layout: str,
    head: str | None = None,
    label_space: LabelSpace | None = None,
    codes: LabelCodes | None = None,
) -> dict[str, np.ndarray]:
    """The state dict of a model's variables: the inverse of `import_state_dict`, without `num_batches_tracked`.

    A text encoder lacks its pooler then, which the published text system has but never uses: strict=False in torch.

    Args:
      variables: {'params': {'backbone', 'head'}, 'batch_stats'}, boxed or not.
      layout: 'reference_cifar', 'reference_imagenet', 'torchvision', 'timm_vit', 'torchvision_vit', 'timm_convnext' or
        'torchvision_convnext'; for texts 'reference_text' or 'reference_text_multi_gpu'; for faces
        'insightface_iresnet', 'insightface_mobilefacenet' or 'insightface_vit'.
      head: 'ohe', 'mhp', 'mhc' or 'mhs'; for texts 'ohe' or 'mhc'; for faces 'ohe' or 'mhs', as `weight`: see
        `interop.face_heads`. None exports the backbone only.
      label_space: of the head; needed if its tables are padded with rows, which are then cut off, and for the cascade
        of the published text system.
      codes: of the classes here; rows of classes leave in the order of their ids. None: codes are ids.

    Raises:
      ValueError: for an unknown layout or head, a model that the layout has no names for, or codes that are not ids and
        a head whose weights belong to digits.
    """
    if layout not in (*_IMAGE_LAYOUTS, *_TEXT_LAYOUTS):
        known = ", ".join((*_IMAGE_LAYOUTS, *_TEXT_LAYOUTS))
        raise ValueError(f"layout is {layout!r}; it must be one of {known}")
    if head not in (None, "ohe", "mhp", "mhc", "mhs"):
        raise ValueError(f"head is {head!r}; it must be 'ohe', 'mhp', 'mhc', 'mhs' or None")
    flat = traverse_util.flatten_dict(nn.unbox(dict(variables)), sep="/")
    rules = _export_rules(layout, head, flat)
    exported = {path: array for path, array in flat.items() if head is not None or _part(path) != "head"}
    named = {path: patterns.translate(path, rules, to="torch") for path in exported}
    if unexpected := [path for path, found in named.items() if found is None]:
        raise ValueError(f"layout {layout!r} with head {head!r} lacks {len(unexpected)} names: {_first(unexpected)}")
    state = {}
    for path, found in named.items():
        assert found is not None
        array, name, transform = exported[path], found[0], patterns.TRANSFORMS[found[1]]
        values = np.asarray(widen(array) if isinstance(array, Scaled) else array)
        if values.dtype.name == "bfloat16":  # which NumPy knows by an extension, and torch does not take from it
            values = values.astype(np.float32)
        if transform.rows and label_space:
            values = values[: _num_rows(path, label_space)]
        if _part(path) == "head" and codes is not None and codes.id_of_code is not None:
            _require_rows(path, found[1], name)
            values = in_order(values, codes.code_of_id)
        values = transform.to_torch(values)
        if transform.labels:
            space = _known(label_space, name)
            values = np.pad(values[: space.num_classes], [(0, _padding_rows(transform, space)), (0, 0)])
        state[name] = np.ascontiguousarray(values)
    return state | faces.frozen(layout, state)


def _of_attribute(state_dict: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Names without a `model.` that all of them begin with, or those of the model, which the others say nothing of."""
    held = {name.removeprefix("model."): array for name, array in state_dict.items() if name.startswith("model.")}
    if len(held) == len(state_dict):
        return held
    beside = [name for name in state_dict if not name.startswith("model.")]
    return held if _is_known(held) and not _is_known(beside) else state_dict


def _is_known(names: Collection[str]) -> bool:
    """Whether some layout has a mark among these names."""
    if any(found.detect_backbone(names) for found in (faces, pictures)) or encoders.detect_encoder(names):
        return True
    return patterns.detect_head(names) is not None or patterns.has_backbone(names)


def _layout(
    state_dict: Mapping[str, Any], parts: Sequence[str], paths: Collection[str]
) -> tuple[list[patterns.Rule], Callable[[str], bool]]:
    """The rules for a state dict's names, and which of the others have no counterpart at our variables' `paths`."""
    head, encoder = patterns.detect_head(state_dict), encoders.detect_encoder(state_dict)
    face = faces.detect_backbone(state_dict)
    if face or head == "mhs":  # `weight` alone does not tell whose it is; iresnet has an `fc` that is no classifier's
        rules = faces.head_rules(state_dict.get("weight"), paths)
    else:
        rules = list(patterns.HEADS[head]) if head else []
    if face:
        if "backbone" in parts:
            faces.check_frozen(state_dict)
        return rules + faces.BACKBONES[face], faces.is_ignored
    if picture := pictures.detect_backbone(state_dict):
        return (rules or pictures.classifier(picture)) + pictures.BACKBONES[picture], lambda name: False
    if encoder:
        prefix = encoder[1]
        return rules + encoders.encoder_rules(*encoder), lambda name: encoders.is_ignored(name, prefix)
    if "backbone" in parts:
        rules += patterns.BACKBONES[patterns.detect_backbone(state_dict)]
    return rules, lambda name: name.endswith("num_batches_tracked")


def _export_rules(layout: str, head: str | None, flat: Mapping[str, Any]) -> list[patterns.Rule]:
    if layout in _TEXT_LAYOUTS:
        prefix, heads = _TEXT_LAYOUTS[layout]
        names = [path.removeprefix("params/backbone/") for path in flat if path.startswith("params/backbone/")]
        rules = encoders.encoder_rules(encoders.architecture_of(names), prefix)
        return rules + patterns.HEADS[heads[head]] if head in heads else rules
    rules = list(_IMAGE_LAYOUTS[layout])
    if layout in faces.BACKBONES:
        return rules + faces.EXPORTED_HEADS[head] if head in faces.EXPORTED_HEADS else rules
    if head == "ohe" and layout in pictures.BACKBONES:
        rules += pictures.classifier(layout)
    elif head:
        rules += patterns.HEADS["mhc2" if head == "mhc" and "params/head/table_2" not in flat else head]
    return rules


def _to_ours(
    array: np.ndarray, transform: patterns.Transform, path: str, shape: tuple[int, ...], space: LabelSpace | None
) -> np.ndarray | None:
    """The array as the parameter at `path`, with zeros in padding rows; None if it cannot be that."""
    if transform.labels:
        space = _known(space, path)
        if array.ndim != 2 or len(array) != space.num_classes + _padding_rows(transform, space):
            return None
        array = array[: space.num_classes]
    values = transform.to_ours(array, shape)
    if transform.rows and space and values.ndim and len(values) == _num_rows(path, space):
        values = np.pad(values, [(0, max(shape[0] - len(values), 0))] + [(0, 0)] * (values.ndim - 1))
    return values if values.shape == shape else None


def _require_rows(path: str, transform: str, name: str) -> None:
    """Raises ValueError unless a head's parameter has a row for each class, to be moved where codes are not ids."""
    if not patterns.TRANSFORMS[transform].rows or path.rpartition("/")[2] not in ("kernel", "bias", "weight"):
        raise ValueError(
            f"the classes have codes of their own here, and {name} belongs to digits, not to classes: only the "
            "backbone, and heads with a row for each class, can be exchanged with torch"
        )


def _part(path: str) -> str:
    return "head" if path.startswith("params/head/") else "backbone"


def _num_rows(path: str, space: LabelSpace) -> int:
    """Rows of a head's table without padding: classes, groups, or the nodes whose children it holds."""
    leaf = path.rsplit("/", 1)[-1]
    if leaf in ("kernel", "bias"):
        return space.num_classes
    levels = int(leaf.removeprefix("table_")) if leaf.startswith("table_") else 1
    return int(np.prod(space.head_sizes[:levels]))


def _known(space: LabelSpace | None, name: str) -> LabelSpace:
    if space is None:
        raise ValueError(f"label_space is needed: the number of labels in {name} cannot be told from its rows")
    return space


def _padding_rows(transform: patterns.Transform, space: LabelSpace) -> int:
    return int(transform.padding_row and space.num_codes > space.num_classes)


def _check_parts(parts: Collection[str]) -> None:
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"parts is {tuple(parts)}; it must be some of {PARTS}")


def _first(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
