"""The command `mhe`: its verbs, their help, configs by name, and one line with status 2 for each mistake."""

import os
import pathlib
import subprocess
import sys
import types

import pytest

import mhe_jax
from mhe_jax import cli
from mhe_jax.recipes import files

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def mhe(tmp_path):
    """Runs `python -m mhe_jax` in an empty folder, with nothing but the package to be found."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mhe_jax", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def status_of(function, *arguments) -> int:
    """The exit status of a call that ends the program."""
    with pytest.raises(SystemExit) as left:
        function(*arguments)
    return left.value.code or 0


def test_the_help_lists_the_verbs(capsys):
    assert status_of(cli.main, ["mhe"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == list(cli.VERBS)
    modules = {path.stem for path in (ROOT / "mhe_jax" / "cli").glob("*.py")} - {
        "__init__",
        "program",
        "run",
    }
    assert {name.replace("_", "-") for name in modules} <= set(listed)


def test_the_version(capsys):
    assert status_of(cli.main, ["mhe", "--version"]) == 0
    assert capsys.readouterr().out == f"mhe {mhe_jax.__version__}\n"


def test_an_unknown_verb_is_named(capsys):
    assert status_of(cli.main, ["mhe", "trian"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no verb 'trian'; there are: train, eval")


@pytest.mark.parametrize(("verb", "code"), [("train", 75), ("extend", 75), ("eval", None)])
def test_what_trains_is_ended_with_the_code_that_asks_for_another_start(verb, code, monkeypatch):
    codes = []
    monkeypatch.setattr(cli.interruption, "leave_at_once", codes.append)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: types.SimpleNamespace(main=lambda argv: 0))
    assert status_of(cli.main, ["mhe", verb]) == 0
    assert codes == [code]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_has_a_help(verb, mhe):
    done = mhe(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mhe" in done.stdout
    assert verb in done.stdout
    assert "--" in done.stdout


def test_the_configs_are_listed_and_printed(mhe):
    listed = mhe("configs").stdout.splitlines()
    assert [line.split()[0] for line in listed] == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert all(len(line.split()) > 3 for line in listed)
    assert mhe("configs", "imagenet_mhc").stdout == (ROOT / "configs" / "imagenet_mhc.py").read_text()
    done = mhe("configs", "imagnet_mhc")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no config file imagnet_mhc, and none of that name is shipped; the ")


def test_a_shipped_config_is_read_in_an_empty_folder(mhe, tmp_path):
    """What describe compiles takes half a minute; that it asks for what this config lacks is enough to see it read."""
    done = mhe("describe", "--config=glyphs_mhp:smoke")
    assert done.returncode == 2
    assert done.stderr.startswith("error: describe reads no data: say --config.data.num_classes")
    assert sorted(tmp_path.iterdir()) == []


def test_a_copy_of_a_shipped_config_says_the_same(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text((files.SHIPPED / "glyphs_mhp.py").read_text())
    assert files.load_config(f"{copy}:smoke") == files.load_config("glyphs_mhp:smoke")
    assert files.load_config(f"{copy}") == files.load_config("glyphs_mhp")


@pytest.mark.parametrize("name", ["imagenet_mhc", "imagenet_mhc.py", "configs/imagenet_mhc.py"])
def test_ways_to_name_a_shipped_config(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = files.SHIPPED / "imagenet_mhc.py"
    assert files.config_file(name) == shipped
    assert files.located(f"{name}:reference,smoke") == f"{shipped}:reference,smoke"
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("")
    assert files.config_file(name) == pathlib.Path(name)


MISTAKES = {
    "none.py": ("", "--config=none.py: it has no function get_config"),
    "parse.py": ("def get_config():\n    return 1 +\n", "parse.py:2: invalid syntax"),
    "name.py": ("def get_config():\n    return 1 + seven\n", "name.py:2: NameError: name 'seven' is not defined"),
    "module.py": ("import no_such_module\n", "module.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
    "mine.txt": ("", "mine.txt is no Python file"),
    "imagnet_mhc": (None, "there is no config file imagnet_mhc, and none of that name is shipped; the nearest are"),
    "configs/nothing.py": (None, "there is no config file configs/nothing.py, and none of that name is shipped; `mhe"),
    "elsewhere/imagenet_mhc.py": (None, "there is no config file elsewhere/imagenet_mhc.py"),
    "imagenet_mhc:refrence": (None, "--config=imagenet_mhc:refrence: config argument 'refrence': head sizes such as"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_config_that_cannot_be_used_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, message = MISTAKES[name]
    if source is not None:
        (tmp_path / name).write_text(source)
    with pytest.raises(ValueError, match=".") as error:
        files.load_config(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *((f"{verb} --config=imagenet_mhc:refrence", "'refrence'") for verb in ("train", "describe", "scaling")),
        *((f"{verb} --config imagnet_mhc", "nearest are imagenet_mhc") for verb in ("eval", "baseline", "scaling")),
        *((f"{verb} --config=parse.py", "parse.py:2: invalid syntax") for verb in ("predict", "baseline", "scaling")),
        ("train --config=glyphs_mhp --config.hed.rank=3", "the config has no field 'hed'. Did you mean \"head\""),
        ("train --config=glyphs_mhp --config.seed=x", "--config.seed=x"),
        ("train --steps=3", "Unknown command line flag 'steps'"),
        ("train", "--config or --workdir is needed"),
        ("predict --config=glyphs_mhp", "predict needs --workdir"),
        ("describe extra", "unexpected arguments: extra"),
        ("baseline", "--config"),
        ("predict --workdir=RUN --input=x.txt --split=val", "--split is of predict alone, without --input"),
        ("describe --config=glyphs_mhp --memory=1KB", "--memory is of advise, and describe takes none"),
        ("advise --config=glyphs_mhp --output=x.json", "--output is of predict and describe, and advise takes none"),
        ("eval --workdir=RUN --input=x.txt", "--input is of predict, and eval takes none"),
        ("eval --workdir=RUN --target=h100:8", "--target is of describe and advise, and eval takes none"),
        ("ensemble RUN RUN --weights=2,x", "--weights=2,x: give auto, or a number for each run, such as 2,1"),
        ("ensemble RUN OTHER --weights=2", "--weights has 1 numbers for 2 runs"),
        ("ijb RUN", "a workdir and the benchmark's folder are needed"),
        ("verify a.jpg b.jpg", "--workdir=RUN are needed"),
        ("scaling --config=scaling --meshes 4y2", "--meshes 4y2: devices along data x class, such as 8x64"),
        ("scaling --config=scaling:texts,partial --meshes 1x1 1x2", "'partial' is for faces"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, mhe, tmp_path):
    (tmp_path / "parse.py").write_text(MISTAKES["parse.py"][0])
    done = mhe(*arguments.split())
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr


def test_main_takes_the_flags_without_a_verb():
    done = subprocess.run([sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--config: FILE[:ARGUMENTS]" in done.stdout
    assert "--mode: <train|eval|predict|describe|advise>" in done.stdout
