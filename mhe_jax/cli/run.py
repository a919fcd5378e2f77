"""`mhe train | eval | predict | describe | advise`: what a config or a run is asked; main.py takes it as --mode."""

import datetime
import gc
import json
import pathlib
import time

from absl import app, flags
from ml_collections import config_flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS
_STARTED = time.monotonic()
# Flags that some modes alone take.
_MODES = {
    "input": ("predict",),
    "split": ("predict",),
    "top_k": ("predict",),
    "output": ("predict", "describe"),
    "target": ("describe", "advise"),
    "heads": ("describe",),
    "memory": ("advise",),
    "class_names": ("eval", "predict"),
    "threshold": ("eval", "predict"),
    "taxonomy": ("eval", "predict"),
    "profile_steps": ("train",),
}


def main(argv: list[str]) -> None:
    config_flags.DEFINE_config_file("config", None, "FILE[:ARGUMENTS], or the name of a shipped config.")
    flags.DEFINE_string("workdir", None, "Folder of the run; for train it defaults to runs/<config>/<time>.")
    flags.DEFINE_enum("mode", "train", ["train", "eval", "predict", "describe", "advise"], "What to do.")
    flags.DEFINE_string(
        "input",
        None,
        "predict: a picture, a folder of pictures, a .npy of uint8 images; a text, a file of texts, - for the lines of "
        "standard input as they come; a .npy or .safetensors of features. Without it, a run with many labels an "
        "example ranks those of its whole test split.",
    )
    flags.DEFINE_enum(
        "split",
        None,
        ["test", "val"],
        "predict, without --input: val ranks the labels of the documents that chose the best checkpoint instead, for "
        "the weights of `mhe ensemble --weights=auto`.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "predict: file for the JSON lines, by default standard output; describe: JSON file of the figures.",
    )
    flags.DEFINE_string(
        "target",
        None,
        "describe, advise: devices that need not be here, such as h100:8, h100:8x8 (hosts x devices), tpu-v6e:4, or "
        "FILE:8 with a description of one. Needs the extra `aot`.",
    )
    flags.DEFINE_enum(
        "heads", "all", ["all", "own"], "describe: own compiles the config's head alone, without its siblings."
    )
    flags.DEFINE_string(
        "memory", None, "advise: what programs may have of a device, such as 24GB; by default what the target has."
    )
    flags.DEFINE_string(
        "class_names", None, "eval, predict: file of readable names, lines `NAME READABLE NAME` or one for each class."
    )
    flags.DEFINE_string(
        "profile_steps", None, "train: FIRST:LAST, the steps, counted from 1, of a trace in the workdir's profile/."
    )
    flags.DEFINE_integer("top_k", 5, "predict: classes per example; fewer where there are fewer.")
    flags.DEFINE_string(
        "threshold",
        None,
        "predict, with --input: classes of a lower probability are left out; auto answers what `mhe decide` chose. "
        "With --taxonomy, also of eval: answers go down the tree as long as they are so sure.",
    )
    flags.DEFINE_string(
        "taxonomy",
        None,
        "eval, predict: a tree above the classes, a file of lines NAME<TAB>GROUP; for eval by default that of the "
        "codes, or taxonomy.tsv beside the data.",
    )
    flags.DEFINE_string("coordinator", None, "Of several processes: HOST:PORT of process 0, on which it listens.")
    flags.DEFINE_integer("num_processes", None, "How many processes make up the run; each gets the same flags.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
    flags.DEFINE_enum(
        "distributed",
        None,
        ["auto"],
        "auto: the three flags before are found out from Slurm, Open MPI, Kubernetes or a TPU's environment.",
    )
    program.start(command, argv)


def command(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if FLAGS.mode == "predict" and FLAGS.workdir is None:
        raise app.UsageError("predict needs --workdir")
    if FLAGS.config is None and FLAGS.workdir is None:
        raise app.UsageError("--config or --workdir is needed")
    program.quiet()
    if FLAGS.mode == "predict":
        # What importing makes all stays: looking through it again and again takes a tenth of a start.
        gc.disable()
    # Imported here, so that --help is quick.
    from mhe_jax.train.parallel import interruption

    interruption.leave_at_once(interruption.EXIT_CODE if FLAGS.mode == "train" else None)
    return program.status_of(run)


def run() -> int:
    from mhe_jax.settings import Settings
    from mhe_jax.targets import target as targets
    from mhe_jax.train import compilation_cache, experiment, left_to_data
    from mhe_jax.train.parallel import deterministic, distributed
    from mhe_jax.train.reporting import profile

    for name, modes in _MODES.items():
        if FLAGS[name].present and FLAGS.mode not in modes:
            raise ValueError(f"--{name} is of {' and '.join(modes)}, and {FLAGS.mode} takes none")
    if FLAGS.split is not None and (FLAGS.mode != "predict" or FLAGS.input is not None):
        raise ValueError("--split is of predict alone, without --input")
    of_predict = FLAGS.mode == "predict" and FLAGS.input is not None
    for name in ("threshold", "taxonomy"):
        if FLAGS[name].value is not None and not (of_predict or FLAGS.mode == "eval"):
            raise ValueError(f"--{name} is of eval, and of predict with --input")
    profile_steps = profile.parse_steps(FLAGS.profile_steps) if FLAGS.profile_steps is not None else None
    workdir = pathlib.Path(FLAGS.workdir) if FLAGS.workdir else None
    class_names = pathlib.Path(FLAGS.class_names) if FLAGS.class_names else None
    taxonomy = pathlib.Path(FLAGS.taxonomy) if FLAGS.taxonomy else None
    config = FLAGS.config
    if config is None:
        assert workdir is not None
        config, _ = experiment.read_workdir(workdir)
    settings = Settings.from_config(config)
    if settings.deterministic:
        deterministic.require()
    # Before any device is touched: the process then needs none but the CPU.
    target = targets.find(FLAGS.target) if FLAGS.target and FLAGS.mode in ("describe", "advise") else None
    distributed.initialize(
        FLAGS.coordinator,
        FLAGS.num_processes,
        FLAGS.process_id,
        FLAGS.distributed == "auto",
        heartbeat_seconds=settings.heartbeat_seconds,
        peer_seconds=settings.peer_seconds,
    )
    if FLAGS.config is None and workdir is not None:
        config = experiment.usable_config(workdir, FLAGS.mode in ("eval", "predict"))
    # Of several processes, one speaks.
    say = print if distributed.is_main() else lambda text: None
    # Each mode imports its own: of `predict` the start is what people wait for.
    # What is compiled to be described is not run, and comes from the disk without its figures.
    if FLAGS.mode not in ("describe", "advise") and (not_kept := compilation_cache.enable()):
        say(not_kept)
    if FLAGS.mode == "advise":
        from mhe_jax.train.reporting import advise

        if FLAGS.memory:
            memory = targets.memory_of(FLAGS.memory)
        elif target is not None:
            memory = target.usable
        else:
            raise ValueError("advise needs --target, or --memory, such as 24GB")
        say(advise.as_text(advise.advise(left_to_data.as_trained(config, workdir), target, memory)))
    elif FLAGS.mode == "describe":
        from mhe_jax.train.reporting import description
        from mhe_jax.train.reporting.describe import describe
        from mhe_jax.train.reporting.writers import write_atomically

        found = describe(left_to_data.as_trained(config, workdir), target, siblings=FLAGS.heads == "all")
        if FLAGS.output and distributed.is_main():
            write_atomically(pathlib.Path(FLAGS.output), json.dumps(description.as_data(found), indent=2) + "\n")
        say(description.as_text(found))
    elif FLAGS.mode == "eval":
        from mhe_jax.inference.evaluate import evaluate
        from mhe_jax.train.reporting.writers import finite

        say(json.dumps(finite(evaluate(config, workdir, class_names, taxonomy, FLAGS.threshold))))
    elif FLAGS.mode == "predict":
        from mhe_jax.inference.predict import predict, predict_split

        assert workdir is not None
        gc.freeze()
        gc.enable()
        output, top_k = pathlib.Path(FLAGS.output) if FLAGS.output else None, program.top_k(workdir)
        if FLAGS.input is None:
            say(predict_split(config, workdir, top_k, output, class_names, FLAGS.split))
        else:
            predict(config, workdir, FLAGS.input, top_k, output, class_names, FLAGS.threshold, taxonomy)
    else:
        from mhe_jax.train import loop
        from mhe_jax.train.parallel import interruption
        from mhe_jax.train.reporting.writers import finite

        # The time in a default name is that of the main process.
        workdir = workdir or pathlib.Path(distributed.agree_on_text("workdir", str(default_workdir())))
        result = loop.train_and_evaluate(config, workdir, profile_steps=profile_steps, started=_STARTED)
        say(json.dumps(finite(result), indent=2))
        return interruption.EXIT_CODE if result["interrupted"] else 0
    return 0


def default_workdir() -> pathlib.Path:
    """runs/<config>/<time>, the config's argument string included."""
    file, _, argument = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    name = "-".join(filter(None, [pathlib.Path(file).stem, argument.replace(",", "-")]))
    return pathlib.Path("runs") / name / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
