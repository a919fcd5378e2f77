"""Where what can be made again is kept from one run to the next."""

import os
import pathlib


def cache_root() -> pathlib.Path:
    """The folder mhe_jax under $XDG_CACHE_HOME or ~/.cache, which may not exist yet; it may be removed at any time."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "mhe_jax")
