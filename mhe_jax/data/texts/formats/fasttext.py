"""The files of fastText: a line `__label__sports __label__rome the text` each.

Any word that begins with `__label__` is a label, wherever it stands in the line, as in fastText; words end at ASCII
white space alone, so that a label may hold any other character. Blank lines are passed over. A label's id is the
lexicographic rank of its name among those of all splits.
"""

import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, read_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.gathered import gather
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows

_PREFIX = "__label__"
_SPACE = " \t\v\f\r\0"
_LABEL = re.compile(rf"(?<![^{_SPACE}]){_PREFIX}([^{_SPACE}]*+)")
# Those that a line begins with, and what separates them from the text.
_LEADING = re.compile(rf"(?:[{_SPACE}]*+{_PREFIX}[^{_SPACE}]*+)++[{_SPACE}]?")
_LOOKED_AT = 1000  # lines of a file whose first ones may have no labels


def is_fasttext(path: pathlib.Path) -> bool:
    """Whether labels of fastText stand in one of a file's first lines; of one that cannot be read, reading says why."""
    try:
        return any(_LABEL.search(line) for line in itertools.islice(read_lines(path, "latin-1"), _LOOKED_AT))
    except DataError:
        return True


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train'} and, if they are there, 'test' and 'validation'."""
    return gather(files, _read_split, _texts)


def _read_split(path: pathlib.Path, numbers: LabelNumbers) -> tuple[TextScan, LabelRows]:
    scan, rows = TextScan(), LabelRows()
    for number, labels, text in _documents(path):
        if not all(labels):
            raise DataError(f"{path}:{number}: {_PREFIX} has no name behind it: write {_PREFIX}name, without a space")
        scan.add(text)
        rows.add(map(numbers.__getitem__, labels))
    return scan, rows


def _texts(path: pathlib.Path) -> Iterator[str]:
    return (text for _, _, text in _documents(path))


def _documents(path: pathlib.Path) -> Iterator[tuple[int, list[str], str]]:
    """The number of each line, its labels, and the rest of it; what stands between others is left as it is."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip(_SPACE):
            continue
        leading = _LEADING.match(line)
        labels = _LABEL.findall(leading[0]) if leading else []
        text = line[leading.end() :] if leading else line
        if _PREFIX in text:
            labels += _LABEL.findall(text)
            text = _LABEL.sub("", text)
        yield number, labels, text
