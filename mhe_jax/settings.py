"""Every top-level field of a config: its meaning, its default, and the check that a config has no other.

A section holds a `name` and the keyword arguments of the object that it names, see `mhe_jax.registry`; the fields of
those objects are described where they are defined.
"""

# ruff: noqa: RUF009 (`option` makes a dataclass field)

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

PRECISIONS = ("default", "highest")
NORMS = ("grad", "param", "update")
_UNITS = ("steps", "epochs")
_COUNTS = (
    "global_batch_size",
    "dropout_off_after_step",
    "steps_per_dispatch",
    "keep_checkpoints",
    "keep_every_steps",
    "stall_seconds",
)


def option(default: Any = dataclasses.MISSING, help: str = "", *, free: bool = False) -> Any:
    """A dataclass field that is a field of a config.

    Args:
      default: without one, a config has to have the field. A dict becomes a section of each config's own.
      help: what the field means, for people and for the manual, which is made from it; a class with a docstring of its
        fields needs none.
      free: whether it may change when a run is resumed: it moves work around, says where files lie, or what happens
        when something goes wrong, without changing the numbers. A free field may also go unread.
    """
    metadata = {"help": help, "free": free}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: ConfigDict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def free_fields(described: type) -> set[str]:
    """The fields of a dataclass that are declared free, see `option`."""
    return {field.name for field in dataclasses.fields(described) if field.metadata.get("free")}


# In messages: how a config's tables are trained by its optimizer.
DO_WITHOUT = "table_optimizer.name = 'none' (argument `dense` of configs that own their tables)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config, checked and typed.

    Durations come in pairs: the `_steps` field rules when it is positive, else the `_epochs` field is converted.
    """

    # ---- What is trained.
    data: ConfigDict = option(help="Section: the data set.")
    backbone: ConfigDict = option(help="Section: the network from pictures or tokens to features.")
    head: ConfigDict = option(help="Section: the classifier; `head_sizes` are the digits, empty for balanced ones.")
    # ---- How it is optimised.
    optimizer: ConfigDict = option(help="Section: the optimizer.")
    schedule: ConfigDict = option(help="Section: the learning rate by step.")
    average: ConfigDict = option({"name": "none"}, "Section: the average of the weights that is evaluated.")
    table_optimizer: ConfigDict = option(
        {
            "name": "none",
            "updates": "sparse",
            "storage": "float32",
            "moments": "float32",
            "rate": 1.0,
            "weight_decay": 0.0,
        },
        "Section: the rule of a head's large tables: sparse, where the head touches a part of them in a step, owned, "
        "where its loss moves them itself, or dense; 'none' trains them with `optimizer`.",
    )
    clip: ConfigDict = option({"name": "none"}, "Section: the limit of the gradient's norm.")
    # ---- What becomes of pictures in training.
    augment: ConfigDict = option(
        {"name": "none"}, "Section: what training does to pictures, beside the crops and flips of `data`."
    )
    # ---- As what the head sees the classes.
    codes: ConfigDict = option(
        {"name": "identity", "path": "", "epochs": 2.0}, "Section: which class has which code, and so which digits."
    )
    new_classes: str = option(
        "refuse",
        "Of data with classes that the run `init_from` has not: 'extend' keeps all of its classes where they are, and "
        "begins rows for the new ones from the means of their features, see docs/classes.md; 'refuse' is an error.",
    )
    # ---- How much examples and classes count.
    class_weights: ConfigDict = option(
        {"name": "none", "beta": 0.999, "path": "", "start_epoch": 0.0},
        "Section: how much the examples of each class count in the loss.",
    )
    sampling: ConfigDict = option(
        {"name": "none", "power": 0.0, "threshold": 0.001, "start_epoch": 0.0},
        "Section: how often each training example is drawn.",
    )
    logit_adjustment: float = option(
        0.0,
        "Of one label an example: tau; in the loss a class's logit is raised by tau log(its share of the training "
        "examples), so that rankings, which leave that out, favour rare classes (Menon et al. 2021). 0: nothing.",
    )
    # ---- What is asked for besides the labels.
    soft_labels: bool = option(
        False,
        "Of many labels an example: whether the values of their matrix, in 0 .. 1, are the targets of training, rather "
        "than 1 for each label.",
    )
    distillation: ConfigDict = option(
        {"name": "none", "file": "", "weight": 0.5, "temperature": 1.0},
        "Section: scores of a teacher, or of people, that are learnt from besides the labels.",
    )
    # ---- For how long.
    total_epochs: float = option(0.0, "Passes over the training examples.")
    total_steps: int = option(0, "Optimizer steps.")
    global_batch_size: int = option(
        256,
        "Examples per optimizer step over all devices and hosts. 0: by the number of training examples, the largest "
        "power of two that leaves an epoch 32 steps, but at least 32 and at most 256; `schedule.learning_rate` is then "
        "that of a batch of 256, and is multiplied by the square root of batch / 256. A run keeps both.",
    )
    accumulate_steps: int = option(
        1, "Parts that a batch is cut into, one after the other on the device, before the optimizer step."
    )
    seed: int = option(0, "Root of all randomness: initial values, example order, augmentation, sampling.")
    dtype: str = option(
        "float32",
        "Compute dtype of backbone and head products, 'float32' or 'bfloat16'; parameters and losses are always "
        "float32.",
    )
    dropout_off_after_step: int = option(
        0,
        "Of texts: dropout is off in an epoch's steps after this one, counted from 0, as the published text pipeline "
        "leaves it after its first evaluation in an epoch; 0: dropout is always on.",
    )
    matmul_precision: str = option(
        "default",
        "Of float32 products: 'default' lets recent GPUs and TPUs use fewer bits (TF32, bfloat16), 'highest' does not.",
    )
    head_matmul_precision: str = option("", "The same of the head's products; empty: `matmul_precision`.")
    deterministic: bool = option(
        False,
        "Whether GPUs add up in a fixed order, so that a run repeated on the same devices has the same bits (XLA's "
        "flag xla_gpu_deterministic_ops). It costs speed where gradients are scattered into tables, and in products "
        "and convolutions, whose fastest algorithm is no longer looked for; how much was not measured here. CPUs "
        "are deterministic without it.",
        free=True,
    )
    init_from: str = option(
        "",
        "Weights to start from: a .pth or .safetensors file, the workdir of another run, or a folder of insightface's "
        "with backbone.pth. Empty: random, and for a pretrained backbone its checkpoint.",
    )
    init_parts: tuple[str, ...] = option(
        ("backbone", "head"), "Which parts of `init_from` to take: ('backbone', 'head') or ('backbone',)."
    )
    freeze_backbone: bool = option(
        False,
        "Whether the head alone is trained, on features as evaluation has them: the backbone's weights and running "
        "statistics stay, it has no dropout, no gradient and no optimizer state. For a backbone that learns slowly "
        "instead, see `optimizer.backbone_rate`.",
    )
    # ---- On what.
    mesh: ConfigDict = option(
        {"data": -1, "classes": 1},
        "Devices along mesh axes 'data' and 'class' (a word that flags cannot spell); -1 takes the rest.",
        free=True,
    )
    shard_backbone: bool = option(
        False,
        "Whether each device keeps only a part of the backbone's parameters, optimizer slots and averages between "
        "steps (FSDP): less memory for more traffic. A head's tables are split by `mesh.classes`.",
        free=True,
    )
    steps_per_dispatch: int = option(
        0,
        "Optimizer steps run by one call of the compiled program: more hide the host's latency. 0: 16, and 1 on CPUs "
        "and for pictures that are decoded when needed, of which a host would hold 16 batches.",
        free=True,
    )
    # ---- Cadences.
    log_every_steps: int = option(50, "Steps between lines of training metrics.", free=True)
    log_norms: tuple[str, ...] = option(
        ("grad", "param"),
        "Norms of backbone, head and row-sparse tables at the logged steps: of the gradient before it is clipped "
        "('grad'), the parameters ('param') and what they moved by ('update'), as `grad_norm/head`. 'update' takes "
        "memory, up to that of the parameters again. Owned tables are left out.",
        free=True,
    )
    trackers: tuple[str, ...] = option(
        ("tensorboard",),
        "What gets the metrics besides metrics.jsonl: 'tensorboard', 'wandb' and 'mlflow', the latter two where their "
        "packages are installed; they are set up by their own environment variables, such as WANDB_MODE and "
        "MLFLOW_TRACKING_URI.",
        free=True,
    )
    eval_every_epochs: float = option(1.0, "Epochs between evaluations.", free=True)
    eval_every_steps: int = option(0, "Steps between evaluations.", free=True)
    checkpoint_every_epochs: float = option(1.0, "Epochs between checkpoints.", free=True)
    checkpoint_every_steps: int = option(0, "Steps between checkpoints.", free=True)
    keep_checkpoints: int = option(
        2,
        "Newest checkpoints that are kept, at least one. The best one is kept too, be it one of these or older; one "
        "that is outdone goes with the next save.",
        free=True,
    )
    keep_every_steps: int = option(
        0, "Checkpoints of steps that are multiples of this are kept too; 0: no others.", free=True
    )
    eval_bands: str = option(
        "",
        "Whether evaluations have figures by the frequency of the classes too, of their head, middle and tail, and the "
        "mean over the classes: 'thirds' of the classes, or '100,20', more than 100 and fewer than 20 training "
        "examples. Empty: no.",
        free=True,
    )
    # ---- When something goes wrong.
    heartbeat_seconds: int = option(
        60, "Of several processes: one that is silent for so long is taken for dead, and ends the others.", free=True
    )
    peer_seconds: int = option(
        1800,
        "How long processes wait for each other to start, to read their data, and to end; who is missing is named "
        "then.",
        free=True,
    )
    stall_seconds: int = option(
        0,
        "The run ends, with the stacks of all its threads, when for so long no step, no batch of an evaluation and no "
        "checkpoint ends; it has to be longer than the longest compilation. 0: never.",
        free=True,
    )
    on_non_finite: str = option(
        "stop",
        "When the loss or a parameter is not finite: 'stop', or 'rollback' to the last checkpoint and leave out the "
        "batches of the steps in question.",
        free=True,
    )

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Settings":
        """Checks the field names of a config and the few values that nothing else checks.

        Raises:
          ValueError: naming the unknown, missing or impossible field, or one that nothing would read.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise ValueError(f"unknown config field(s) {', '.join(unknown)}; known: {', '.join(known)}")
        needed = [name for name, f in known.items() if f.default is f.default_factory is dataclasses.MISSING]
        missing = [name for name in needed if name not in config]
        if missing:
            raise ValueError(f"config section(s) missing: {', '.join(missing)}")
        settings = cls(**{name: config[name] for name in config})
        for name in ("accumulate_steps", "log_every_steps", "heartbeat_seconds", "peer_seconds"):
            if getattr(settings, name) < 1:
                raise ValueError(f"config.{name} must be at least 1, not {getattr(settings, name)}")
        durations = [f"{name}_{unit}" for name in ("total", "eval_every", "checkpoint_every") for unit in _UNITS]
        for name in (*_COUNTS, *durations):
            if not 0 <= getattr(settings, name) < math.inf:
                raise ValueError(f"config.{name} must be 0 or more, not {getattr(settings, name)}")
        if not settings.total_epochs and not settings.total_steps:
            raise ValueError("one of config.total_epochs and config.total_steps must be positive")
        for name, choices in (
            ("dtype", ("float32", "bfloat16")),
            ("matmul_precision", PRECISIONS),
            ("head_matmul_precision", ("", *PRECISIONS)),
            ("on_non_finite", ("stop", "rollback")),
            ("new_classes", ("refuse", "extend")),
        ):
            if getattr(settings, name) not in choices:
                raise ValueError(f"config.{name} is {getattr(settings, name)!r}; it must be {_listed(choices)}")
        if not 0 <= settings.logit_adjustment < math.inf:
            raise ValueError(f"config.logit_adjustment is {settings.logit_adjustment}; it must be 0 or more")
        if not set(settings.log_norms) <= set(NORMS):
            raise ValueError(f"config.log_norms is {settings.log_norms}; it may name {', '.join(NORMS)}")
        if settings.freeze_backbone and settings.dropout_off_after_step:
            raise ValueError(
                f"config.dropout_off_after_step is {settings.dropout_off_after_step}, but with "
                "config.freeze_backbone there is no dropout: set it to 0"
            )
        if not settings.init_from and tuple(settings.init_parts) != known["init_parts"].default:
            raise ValueError(f"config.init_parts is {settings.init_parts}, but config.init_from names nothing to take")
        return settings

    def duration(self, name: str, steps_per_epoch: int) -> int:
        """The duration `name` ('total', 'eval_every', 'checkpoint_every') in steps; 0 if both of its fields are 0."""
        steps, epochs = getattr(self, f"{name}_steps"), getattr(self, f"{name}_epochs")
        if steps > 0:
            return steps
        return max(1, round(epochs * steps_per_epoch)) if epochs > 0 else 0


def _listed(choices: tuple[str, ...]) -> str:
    return " or ".join(choice or "empty" for choice in choices)


def defaults(described: type = Settings) -> dict[str, Any]:
    """The default of each field of a dataclass that has one, a section as a ConfigDict of its own."""
    found = {}
    for field in dataclasses.fields(described):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of a config by their paths: `head.margin.scale`."""
    if isinstance(tree, Mapping | ConfigDict) and tree:
        inner = ((f"{prefix}.{name}" if prefix else name, sub) for name, sub in tree.items())
        return {path: value for name, sub in inner for path, value in flat(sub, name).items()}
    return {prefix: tree}
