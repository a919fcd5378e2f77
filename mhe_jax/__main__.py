"""`python -m mhe_jax`: the command `mhe` where it is not on the path."""

from mhe_jax.cli import main

if __name__ == "__main__":
    main()
