"""Trains, evaluates, applies or describes a classifier: `python main.py --config=configs/glyphs_mhp.py`."""

from mhe_jax.cli import main

if __name__ == "__main__":
    main()
