"""A model card, generated: the figures of result.json, the config, and facts of the data; nothing that no file says."""

from typing import Any

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.inference.opened import Trained
from mhe_jax.version import __version__

_USE = """```python
import mhe_jax

run = mhe_jax.load("{folder}")
print({call})
```"""
_LIMITS = (
    "It knows the classes it was trained on and no others: every input gets some of them, however little it is like "
    "the training data.",
    "Scores are the model's own probabilities; they have not been calibrated.",
    "The figures are those of the split that chose the checkpoint unless they say `test`.",
)


def card_of(trained: Trained, result: dict[str, Any], license: str = "") -> Any:
    """The card of a run, a huggingface_hub.ModelCard.

    Args:
      trained: the run.
      result: of its result.json; empty where there is none.
      license: an identifier, for the metadata.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # slow to import

    settings, task = trained.settings, task_of(trained.data)
    name = f"{settings.head.name}-{settings.backbone.name}-{settings.data.name}"
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type=settings.data.name,
            dataset_name=settings.data.name,
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split, metric, value in _metrics(result)
    ]
    data = ModelCardData(
        library_name="mhe_jax",
        license=license or None,
        pipeline_tag=task,
        tags=["extreme-classification", "multi-head-encoding", "jax", "flax"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(trained, result, name)}\n")


def task_of(data: Any) -> str | None:
    """The hub's name of what a run does; None where it has none: of features as they are."""
    if isinstance(data, FaceData):
        return "image-feature-extraction"
    if isinstance(data, ImageData):
        return "image-classification"
    return "text-classification" if isinstance(data, TextData | WordData) else None


def _metrics(result: dict[str, Any]) -> list[tuple[str, str, float]]:
    """(split, metric, value) of the best evaluation, and of a test split."""
    best = result.get("best") or {}
    found = [("eval", best), ("test", result.get("test") or best.get("test") or {})]
    return [
        (split, name, value)
        for split, values in found
        for name, value in values.items()
        if isinstance(value, int | float) and name not in ("step", "examples")
    ]


def _text(trained: Trained, result: dict[str, Any], name: str) -> str:
    settings, head = trained.settings, trained.task.head
    sizes = " x ".join(map(str, head.label_space.head_sizes))
    call = "run.embed(inputs)" if isinstance(trained.data, FaceData) else "run.predict(inputs, top_k=5)"
    lines = [f"# {name}", ""]
    lines += [
        f"A classifier of {trained.classes.number:,} classes by mhe_jax {__version__}: backbone "
        f"`{settings.backbone.name}`, head `{settings.head.name}` over {sizes} digits "
        "([Multi-Head Encoding](https://arxiv.org/abs/2412.10182)).",
        "",
        _USE.format(folder="FOLDER or hub:OWNER/NAME", call=call),
        "",
        "## Figures",
        "",
    ]
    metrics = _metrics(result)
    if metrics:
        lines += ["| split | metric | value |", "|---|---|---|"]
        lines += [f"| {split} | {metric} | {value:.6g} |" for split, metric, value in metrics]
    else:
        lines += ["The run has no result yet."]
    lines += ["", "## Training", ""]
    seconds = result.get("seconds")
    facts = {
        "data": settings.data.name,
        "seed": result.get("seed", settings.seed),
        "steps": result.get("step"),
        "batch": settings.global_batch_size,
        "parameters": result.get("parameters"),
        "of the head": result.get("head_parameters"),
        "seconds": seconds,
        "device": result.get("device"),
        "versions": ", ".join(f"{package} {number}" for package, number in (result.get("versions") or {}).items()),
    }
    lines += [f"- {what}: {value}" for what, value in facts.items() if value not in (None, "")]
    lines += _flat(result.get("facts") or {})
    lines += ["", "## Limits", "", *(f"- {line}" for line in _LIMITS)]
    return "\n".join(lines)


def _flat(facts: dict[str, Any], path: str = "") -> list[str]:
    """Facts of the data as lines; texts and numbers only."""
    lines = []
    for name, value in facts.items():
        where = f"{path}{name}"
        if isinstance(value, dict):
            lines += _flat(value, f"{where}: ")
        elif isinstance(value, int | float | str):
            lines.append(f"- {where.replace('_', ' ')}: {value}")
    return lines
