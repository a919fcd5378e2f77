"""Pipes and devices in place of files: told, and not waited for."""

import os

import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.formats.bins import read_bin
from mhe_jax.data.files import require_file
from mhe_jax.inference.class_names import with_names
from mhe_jax.train.experiment import Classes

READERS = {
    "require_file": require_file,
    "read_bin": read_bin,
    "with_names": lambda path: with_names(Classes(2, ("a", "b")), path),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_one_line(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder"):
        path = tmp_path / name
        with pytest.raises(
            DataError, match=f"^{path}: cannot be read: it is a folder, a pipe or a device, not a file$"
        ):
            READERS[reader](path)
    with pytest.raises(DataError, match="no: cannot be read: No such file or directory$"):
        READERS[reader](tmp_path / "no")


def test_files_and_links_to_files_pass(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    require_file(tmp_path / "file")
    require_file(str(tmp_path / "link"))
