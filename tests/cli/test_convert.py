"""`mhe convert`: its statuses and what it says."""

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
