"""Every top-level field of a config: its meaning, its default, and the check that a config has no other.

The sections (`data`, `backbone`, `head`, `optimizer`, `table_optimizer`, `schedule`, `average`) hold a `name` and the
keyword arguments of the object they describe, see `mhe_jax.registry`.
"""

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config, checked and typed.

    Durations come in pairs: the `_steps` field rules when it is positive, else the `_epochs` field is converted.
    """

    # What is trained.
    data: ConfigDict
    backbone: ConfigDict
    head: ConfigDict
    # How it is optimised.
    optimizer: ConfigDict
    schedule: ConfigDict
    average: ConfigDict
    # Row-sparse optimizer of a head's large tables, where the head touches a part of them in a step; 'none': dense.
    table_optimizer: ConfigDict = dataclasses.field(default_factory=lambda: ConfigDict({"name": "none"}))
    # For how long.
    total_epochs: float = 0.0
    total_steps: int = 0
    # Examples per optimizer step over all devices and hosts.
    global_batch_size: int = 256
    # Parts that a batch is cut into, one after the other on the device, before the optimizer step.
    accumulate_steps: int = 1
    # Largest global norm of the gradient; 0 leaves it alone.
    clip_norm: float = 0.0
    # Whose gradient that is: ('backbone', 'head') or, as the published face recipes clip, ('backbone',).
    clip_parts: tuple[str, ...] = ("backbone", "head")
    # Root of all randomness: initial values, example order, augmentation, sampling.
    seed: int = 0
    # Compute dtype of backbone and head products; parameters and losses are always float32.
    dtype: str = "float32"
    # Dropout is off in an epoch's steps after this one, counted from 0, as the published text pipeline leaves it after
    # its first evaluation in an epoch; 0: dropout is always on.
    dropout_off_after_step: int = 0
    # Of float32 products: 'default' lets recent GPUs and TPUs use fewer bits (TF32, bfloat16), 'highest' does not.
    matmul_precision: str = "default"
    # Weights to start from: a .pth or .safetensors file, the workdir of another run, or a folder of insightface's with
    # backbone.pth. Empty: random, and for a pretrained backbone its checkpoint.
    init_from: str = ""
    # Which parts of `init_from` to take: ('backbone', 'head') or ('backbone',).
    init_parts: tuple[str, ...] = ("backbone", "head")
    # Devices along mesh axes 'data' and 'class' (a word that flags cannot spell); -1 takes the rest.
    mesh: ConfigDict = dataclasses.field(default_factory=lambda: ConfigDict({"data": -1, "classes": 1}))
    # Whether each device keeps only a part of the backbone's parameters, optimizer slots and averages between steps
    # (FSDP): less memory for more traffic. A head's tables are split by `mesh.classes`.
    shard_backbone: bool = False
    # Optimizer steps run by one call of the compiled program: more hide the host's latency. 0: chosen by the device.
    steps_per_dispatch: int = 0
    # Cadences.
    log_every_steps: int = 50
    eval_every_epochs: float = 1.0
    eval_every_steps: int = 0
    checkpoint_every_epochs: float = 1.0
    checkpoint_every_steps: int = 0
    # Checkpoints kept besides the best one.
    keep_checkpoints: int = 2
    # Of several processes: one that is silent for so long is taken for dead, and ends the others.
    heartbeat_seconds: int = 60
    # How long processes wait for each other to start, to read their data, and to end; who is missing is named then.
    peer_seconds: int = 1800
    # The run ends, with the stacks of all its threads, when for so long no step, no batch of an evaluation and no
    # checkpoint ends; it has to be longer than the longest compilation. 0: never.
    stall_seconds: int = 0
    # Those of steps that are multiples of this are kept too; 0: no others.
    keep_every_steps: int = 0
    # When the loss or a parameter is not finite: 'stop', or 'rollback' to the last checkpoint and leave out the batches
    # of the steps in question.
    on_non_finite: str = "stop"

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Settings":
        """Checks the field names of a config and the few values that nothing else checks.

        Raises:
          ValueError: naming the unknown, missing or impossible field.
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
        for name in ("global_batch_size", "accumulate_steps", "log_every_steps", "heartbeat_seconds", "peer_seconds"):
            if getattr(settings, name) < 1:
                raise ValueError(f"config.{name} must be at least 1, not {getattr(settings, name)}")
        if settings.total_epochs <= 0 and settings.total_steps <= 0:
            raise ValueError("one of config.total_epochs and config.total_steps must be positive")
        for name in ("keep_every_steps", "stall_seconds"):
            if getattr(settings, name) < 0:
                raise ValueError(f"config.{name} must be 0 or more, not {getattr(settings, name)}")
        for name, choices in (
            ("dtype", ("float32", "bfloat16")),
            ("matmul_precision", ("default", "highest")),
            ("on_non_finite", ("stop", "rollback")),
        ):
            if getattr(settings, name) not in choices:
                raise ValueError(f"config.{name} is {getattr(settings, name)!r}; it must be {' or '.join(choices)}")
        return settings

    def duration(self, name: str, steps_per_epoch: int) -> int:
        """The duration `name` ('total', 'eval_every', 'checkpoint_every') in steps; 0 if both of its fields are 0."""
        steps, epochs = getattr(self, f"{name}_steps"), getattr(self, f"{name}_epochs")
        if steps > 0:
            return steps
        return max(1, round(epochs * steps_per_epoch)) if epochs > 0 else 0
