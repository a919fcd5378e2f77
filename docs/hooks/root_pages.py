"""Takes README.md and CONTRIBUTING.md into the site, so that they are written once."""

from pathlib import Path

from mkdocs.structure.files import File

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files, config):
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=relinked((root / source).read_text(encoding="utf-8"))))
    return files


def relinked(text: str) -> str:
    """Links between files of the repository as links between pages of the site."""
    text = text.replace("](docs/", "](")
    for source, page in PAGES.items():
        text = text.replace(f"]({source})", f"]({page})")
    return text
