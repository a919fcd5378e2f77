"""A class folder that other layouts are made of, and a cache of the test's own."""

import pytest

from tests.data.images.test_folder import save
from tests.data.images.written import NAMES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mhe_jax" / "tars"


@pytest.fixture
def folder(tmp_path, cache):
    """Three classes with 4, 3 and 2 pictures to train, and one each to validate."""
    root = tmp_path / "folder"
    for label, name in enumerate(NAMES):
        for number in range(4 - label):
            save(root / "train" / name / f"{number}.png", 10 * label + number, (40 + number, 50))
        save(root / "val" / name / "0.jpeg", 100 + label)
    return root
