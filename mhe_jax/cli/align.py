"""`mhe align FOLDER OUT [--landmarks=FILE]`: the faces in pictures, upright and of one size."""

import argparse
import sys
from pathlib import Path

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.alignment import SIZE

_EXAMPLES = """
Each picture below FOLDER becomes OUT/<the same path>.png with its largest face, black where the picture ends. The
command can be interrupted: given again, it keeps the faces that are there. Those of another --size or --landmarks, of
which OUT/.align.json tells, are refused.

  mhe align ~/photos ~/faces/train                         # photos/<person>/*.jpg; needs `pip install 'mhe-jax[align]'`
  mhe align ~/photos ~/faces/train --landmarks=points.txt  # lines `picture x y x y x y x y x y`: eyes, nose, mouth
"""


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    command = argparse.ArgumentParser(
        prog=argv[0],
        description="The faces in pictures, upright and of one size, as face models want them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", type=Path, metavar="FOLDER")
    command.add_argument("dest", type=Path, metavar="OUT", help="made if it is not there")
    command.add_argument(
        "--landmarks", type=Path, metavar="FILE", help="of each picture, instead of a search for faces"
    )
    command.add_argument("--size", type=int, default=SIZE, help=f"pixels per side of a face, default {SIZE}")
    command.add_argument("--min_confidence", type=float, default=0.9, help="of a face that is found, default 0.9")
    options = command.parse_args(argv[1:])
    try:
        if options.size < 1:
            raise DataError(f"--size is {options.size}; it must be at least 1")
        from mhe_jax.data.faces.align_folder import align_folder, read_landmarks

        if options.landmarks is not None:
            known = read_landmarks(options.landmarks)
            find = lambda name, _: known.get(name)
            outcome = align_folder(options.source, options.dest, find, options.size, known)
            if missing := [name for name in known if not (options.source / name).is_file()]:
                print(
                    f"{options.landmarks} has landmarks of {len(missing):,} pictures that are not in {options.source}, "
                    f"such as {missing[0]}: names are paths in it, without ./",
                    file=sys.stderr,
                )
        else:
            from mhe_jax.inference.face_detection import FaceDetector

            detector = FaceDetector(options.min_confidence)
            outcome = align_folder(options.source, options.dest, detector, options.size)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: the same command goes on with {options.dest}", file=sys.stderr)
        return 130
    for message in outcome.left_out:
        print(f"left out: {message}", file=sys.stderr)
    without = f", {len(outcome.left_out):,} pictures left out" if outcome.left_out else ""
    print(f"{options.dest}: {outcome.faces:,} faces of {options.size}x{options.size}{without}")
    return 0 if outcome.faces else 2
