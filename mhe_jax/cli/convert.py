"""`mhe convert SOURCE DEST`: face data in another form."""

import argparse
import sys
import time

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.convert import KINDS, convert

_EXAMPLES = """
What lies at SOURCE is found out, and becomes its counterpart:

  folder  DIR/<person>/*.jpg                  rec    DIR with train.rec, train.idx, property (insightface)
  pairs   a list `path path same` or LFW's    bin    a verification set of insightface, like lfw.bin

  mhe convert ~/faces/train ~/faces/records
  mhe convert ~/ms1m-retinaface-t1 ~/ms1m_folders
  mhe convert ~/damaged/train.rec ~/whole --to rec --on_bad_example skip
  mhe convert ~/faces/pairs.txt ~/faces/records/pairs.bin --root ~/faces/val
  mhe convert ~/ms1m-retinaface-t1/lfw.bin ~/lfw

DEST appears when it is complete. An interrupted conversion goes on when it is started again.
"""


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    command = argparse.ArgumentParser(
        prog=argv[0],
        description="Converts identity folders and RecordIO, lists of pairs and .bin verification sets.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", metavar="SOURCE")
    command.add_argument("dest", metavar="DEST", help="what to write; it must not exist")
    command.add_argument("--from", dest="source_kind", choices=list(KINDS), help="what SOURCE is")
    command.add_argument("--to", dest="dest_kind", choices=list(KINDS), help="what to make of it")
    command.add_argument("--root", help="the folder that a list of pairs names pictures in; its own if not given")
    command.add_argument(
        "--on_bad_example",
        choices=["raise", "skip"],
        default="raise",
        help="stop at an unreadable picture (raise), or leave out it and its pairs and name it at the end (skip)",
    )
    options = command.parse_args(argv[1:])
    started = time.monotonic()
    try:
        outcome = convert(**vars(options))
    except (DataError, BadExample, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: the same command goes on with {options.dest}", file=sys.stderr)
        return 130
    for message in outcome.bad:
        print(f"left out: {message}", file=sys.stderr)
    seconds = f"{time.monotonic() - started:.1f} s"
    left_out = f", {len(outcome.bad):,} unreadable pictures left out" if outcome.bad else ""
    print(f"{options.dest}: {outcome.examples:,} {outcome.what}{left_out}, {seconds}")
    return 0
