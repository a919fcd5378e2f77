"""`mhe configs` lists the configs that are shipped; `mhe configs NAME` prints one, to be copied and changed."""

import argparse
import ast
import sys

from mhe_jax.recipes.files import SHIPPED, config_file, shipped_names

_EXAMPLE = """
  mhe configs image_folder_mhp > mine.py
  mhe describe --config=mine.py
"""


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=argv[0],
        description="Lists the configs that are shipped, or prints one, to be copied and changed.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the config to print")
    options = parser.parse_args(argv[1:])
    if options.name is None:
        names = shipped_names()
        width = max(map(len, names))
        for name in names:
            print(f"{name:{width}}  {_first_line((SHIPPED / f'{name}.py').read_text())}")
        return 0
    try:
        print(config_file(options.name).read_text(), end="")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
