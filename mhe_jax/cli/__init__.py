"""The command `mhe`: its verbs, one module each. `python main.py` and `python -m mhe_jax` are the same program."""

import importlib
import pathlib
import sys
from collections.abc import Sequence

from mhe_jax.train.parallel import interruption
from mhe_jax.version import __version__

# What each does in a line; the module of the same name, or `run`, does it.
VERBS = {
    "train": "train a classifier from a config, or go on with it",
    "eval": "evaluate a run, or imported weights",
    "decide": "thresholds and calibration of a run, on held-out examples",
    "predict": "the best classes of pictures or texts; embeddings of faces",
    "describe": "what a config costs, before any data is read",
    "advise": "which head and optimizer for so many classes on such a device",
    "configs": "the configs that are shipped; one of them, to be copied",
    "verify": "do two pictures show one person?",
    "search": "whom of a gallery do pictures show?",
    "align": "the faces in pictures, upright and of one size",
    "ijb": "measure a run on faces on IJB-B or IJB-C",
    "ensemble": "average the predictions of several runs or baselines",
    "serve": "trained runs behind HTTP, and a page to try them on",
    "bench-serve": "how many requests a second, and how long each takes",
    "export": "a run as a file for others: StableHLO, ONNX, safetensors, PyTorch",
    "push": "a run as a folder that others load, here or on the Hugging Face hub",
    "embed": "features of a backbone, once, for heads that train in minutes",
    "teach": "scores of the training examples, for config.distillation",
    "codes": "codes of classes from their features, for codes.name = 'file'",
    "classes": "the classes of a run: listed, renamed, retired",
    "extend": "a run with classes that it does not know yet",
    "baseline": "what a trained model must beat on a config's data",
    "scaling": "tables of memory and traffic over classes and devices",
    "convert": "face data: folders, RecordIO, lists of pairs, .bin sets",
    "shards": "face classifiers: one file, or one for each GPU",
}
_OF_RUN = ("train", "eval", "predict", "describe", "advise")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb of a command line and exits with its status; without a verb, `--mode` says which of a run's it is.

    Args:
      argv: the program's name and its arguments; those of the process if not given.
    """
    program, *arguments = sys.argv if argv is None else argv
    program = pathlib.Path(program).name
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help") and program != "main.py":
        sys.exit(_help())
    if verb == "--version":
        print(f"mhe {__version__}")
        sys.exit()
    if verb.startswith("-"):
        module, arguments = "run", [program, *arguments]
    elif verb in _OF_RUN:
        module, arguments = "run", [f"{program} {verb}", f"--mode={verb}", *arguments[1:]]
    elif verb in VERBS:
        module, arguments = verb.replace("-", "_"), [f"{program} {verb}", *arguments[1:]]
    else:
        print(f"error: there is no verb {verb!r}; there are: {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    if module in ("run", "extend"):
        # Before all imports, which take seconds. The mode is not known for certain until the flags are parsed.
        mode = next((text.partition("=")[2] for text in arguments if text.startswith("--mode=")), "train")
        interruption.leave_at_once(interruption.EXIT_CODE if mode == "train" else None)
    # Imported when it is asked for: each has flags of its own, and --help shall be quick.
    sys.exit(importlib.import_module(f"mhe_jax.cli.{module}").main(arguments))


def _help() -> int:
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {meaning}" for name, meaning in VERBS.items()]
    print("\n".join(["mhe VERB [FLAGS]; `mhe VERB --help` lists the flags of one.", "", *lines]))
    return 0
