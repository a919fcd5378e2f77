"""Writes the page of the command line from what each verb's --help prints."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from mkdocs.structure.files import File

from mhe_jax.cli import VERBS

INTRODUCTION = """# The command line

`mhe VERB [FLAGS]`; `python -m mhe_jax` is the same command, and `python main.py` takes the first four verbs as
`--mode`. `--config` takes a file, or the name of a config that the package ships. Exit codes: 0 done, 75 interrupted
and saved, 2 a mistake in flags, config or data, 1 what disks, networks and other processes did.
"""
# As the installed command runs it.
_RUN = "import sys; sys.argv = ['mhe', *sys.argv[1:]]; from mhe_jax.cli import main; main()"


def on_files(files, config):
    files.append(File.generated(config, "cli.md", content=page()))
    return files


def page() -> str:
    """The page in Markdown; verbs with one help share a section."""
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(VERBS, pool.map(_help, VERBS), strict=True))
    alike: dict[str, list[str]] = {}
    for verb, text in helps.items():
        alike.setdefault(text, []).append(verb)
    link = {verb: f"[`{verb}`](#mhe-{verbs[0]})" for verbs in alike.values() for verb in verbs}
    table = ["| verb | |", "|---|---|", *(f"| {link[verb]} | {what} |" for verb, what in VERBS.items())]
    sections = [
        f"## mhe {', '.join(verbs)} {{#mhe-{verbs[0]}}}\n\n```text\n{text}\n```" for text, verbs in alike.items()
    ]
    return "\n\n".join([INTRODUCTION, "\n".join(table), *sections]) + "\n"


def _help(verb: str) -> str:
    done = subprocess.run([sys.executable, "-c", _RUN, verb, "--help"], capture_output=True, text=True)
    if not done.stdout.strip():
        raise RuntimeError(f"mhe {verb} --help printed nothing and ended with {done.returncode}: {done.stderr}")
    # Of all libraries' flags too; absl ends its help so.
    return done.stdout.replace("Try --helpfull to get a list of all flags.", "").strip()
