"""Configs that runs of version 0.1 keep in config.json, turned into today's: fields that moved, and fields that were
accepted though nothing read them, which are errors today."""

from typing import Any

# Data sets of 0.1 whose examples have many labels, and a backbone with dropout to switch off; and those of faces.
_TEXTS = ("synthetic_text", "unicode", "xmc")
_FACES = ("face_folder", "face_glyphs", "face_records", "face_synthetic")

# Fields of each sampler, by their names of 0.1.
_SAMPLERS: dict[str, dict[str, str]] = {
    "per_example": {"num_groups": "num_groups", "drop_one_group": "drop_one_group"},
    "batch_union": {"sample_parts": "parts"},
    "random_groups": {"sample_rate": "rate", "sample_parts": "parts"},
    "positive_only": {},
}


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config as today's programs take it; one of today's keeps its meaning.

    Args:
      config: plain dicts and lists, as read from JSON; left alone.
    """
    config = {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}
    _move_clip(config)
    data = config.get("data", {}).get("name")
    if "head" in config:
        _move_sampler(config["head"], data)
        _drop_smoothing(config["head"], data)
        _drop_prior(config["head"])
    if data not in _TEXTS:
        config.pop("dropout_off_after_step", None)
    if not config.get("init_from"):
        config.pop("init_parts", None)
    if config.get("schedule", {}).get("name") == "constant":
        config["schedule"].pop("per_epoch", None)
    if config.get("optimizer", {}).get("name") == "sgd" and config["optimizer"].get("momentum") == 0:
        config["optimizer"].pop("nesterov", None)
    return config


def _move_clip(config: dict[str, Any]) -> None:
    """`clip_norm` and `clip_parts` became the section `clip`."""
    norm, parts = config.pop("clip_norm", None), config.pop("clip_parts", None)
    if norm is not None and norm > 0:
        config["clip"] = {"name": "norm", "norm": norm, **({"parts": parts} if parts else {})}


def _drop_smoothing(head: dict[str, Any], data: str | None) -> None:
    """Heads without smoothing had its field, which had to be 0."""
    if "margin" in head or (data in _TEXTS and head.get("name") in ("ohe", "mhc")):
        head.pop("label_smoothing", None)


def _drop_prior(head: dict[str, Any]) -> None:
    """One-hot heads took a prior for biases that they did not have."""
    if head.get("name") == "ohe" and head.get("use_bias") is False and "prior" in head:
        head["prior"] = 0.0


def _move_sampler(head: dict[str, Any], data: str | None) -> None:
    """`sampler` and the fields of all samplers became the section `sampler` with the fields of that one."""
    if head.get("name") != "mhs" or isinstance(head.get("sampler"), dict):
        return
    # As they were where a config did not say; the other fields' defaults have not changed.
    said = {"sampler": "batch_union" if data in _TEXTS + _FACES else "per_example", **head}
    if data in _FACES:
        said = {"num_groups": 2, **said}
    elif said["sampler"] == "random_groups":
        # Of pictures and texts they were drawn as a whole, on any mesh.
        said["sample_parts"] = 1
    for field in ("num_groups", "drop_one_group", "sample_rate", "sample_parts"):
        head.pop(field, None)
    names = _SAMPLERS.get(said["sampler"], {})
    head["sampler"] = {"name": said["sampler"], **{new: said[old] for old, new in names.items() if old in said}}
