"""`mhe shards merge FOLDER FILE.pt`, `mhe shards split SOURCE FOLDER --num_shards=3`: face classifiers in files.

On several GPUs insightface's trainer writes the classifier as softmax_fc_gpu_*.pt, see `mhe_jax.interop.face_heads`.
"""

import argparse
import sys
from pathlib import Path

from mhe_jax.interop.face_heads import read_head, shard_files, split_table, write_table


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=argv[0], description="Face classifiers: one file, or one for each GPU.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    merge = commands.add_parser("merge", help="one file from a folder of softmax_fc_gpu_*.pt")
    split = commands.add_parser("split", help="softmax_fc_gpu_*.pt for another number of GPUs")
    merge.add_argument("source", type=Path, metavar="FOLDER")
    merge.add_argument("dest", type=Path, metavar="FILE.pt")
    split.add_argument("source", type=Path, metavar="SOURCE", help="such a folder, or one file")
    split.add_argument("dest", type=Path, metavar="FOLDER", help="made if it is not there")
    split.add_argument("--num_shards", type=int, required=True, help="number of GPUs")
    options = parser.parse_args(argv[1:])
    try:
        table = read_head(options.source)
        if options.command == "merge":
            write_table(options.dest, table)
        else:
            shards = split_table(table, options.num_shards)
            options.dest.mkdir(parents=True, exist_ok=True)
            if shard_files(options.dest):
                raise ValueError(f"{options.dest} already has softmax_fc_gpu_*.pt: name another folder")
            for rank, shard in enumerate(shards):
                write_table(options.dest / f"softmax_fc_gpu_{rank}.pt", shard)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.dest}: {' x '.join(map(str, table.shape))}")
    return 0
