"""`mhe convert`: its statuses and what it says."""

import os

import pytest

from mhe_jax.cli.convert import main
from tests.data.faces.people import stop_after, write_people


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people")


def test_the_command_line(people, tmp_path, capsys, monkeypatch):
    (people / "bob" / "0.jpeg").write_bytes(b"broken")
    command = ["mhe convert", str(people), str(tmp_path / "dest")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {people}/bob/0.jpeg: cannot be decoded")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main([*command, "--on_bad_example=skip"]) == 130
    assert capsys.readouterr().err == f"interrupted: the same command goes on with {tmp_path}/dest\n"
    assert main([*command, "--on_bad_example=skip", "--from=folder", "--to=rec"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path}/dest: 9 pictures of 4 identities, 1 unreadable pictures left out, ")
    assert output.err.startswith(f"left out: {people}/bob/0.jpeg: cannot be decoded")
    for arguments in (["mhe convert", "--help"], ["mhe convert", "a"], ["mhe convert", "a", "b", "--to=zip"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "mhe convert ~/faces/train ~/faces/records" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [None, "bin", "pairs", "rec", "folder"])
@pytest.mark.parametrize("name", ["set.bin", "set.txt", "set.rec"])
def test_a_pipe_is_one_line_and_not_waited_for(tmp_path, capsys, name, kind):
    os.mkfifo(tmp_path / name)
    assert (
        main(["mhe convert", str(tmp_path / name), str(tmp_path / "dest"), *([f"--from={kind}"] if kind else [])]) == 2
    )
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / name}: cannot be read: it is a pipe or a device, neither file nor folder\n"
    assert not (tmp_path / "dest").exists()


def test_a_device_is_no_verification_set(tmp_path, capsys):
    (tmp_path / "zero.bin").symlink_to("/dev/zero")
    assert main(["mhe convert", str(tmp_path / "zero.bin"), str(tmp_path / "dest")]) == 2
    assert "zero.bin: cannot be read: it is a pipe or a device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("pairs", "pairs.txt", "pairs.txt: cannot be read: it is a folder, a pipe or a device, not a file"),
        ("rec", "train.rec", "train.rec does not exist: records are read from a folder"),
    ],
)
def test_a_pipe_in_a_folder_is_one_line_too(tmp_path, capsys, kind, name, message):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / name)
    assert main(["mhe convert", str(tmp_path / "data"), str(tmp_path / "dest"), f"--from={kind}"]) == 2
    assert message in capsys.readouterr().err
