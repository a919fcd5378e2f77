"""`python -m mhe_jax`: the command `mhe` where it is not on the path."""

import sys

from mhe_jax.cli import main

if __name__ == "__main__":
    main(["mhe", *sys.argv[1:]])
