"""Documents with many labels from a folder in any layout of the field."""

import dataclasses

from mhe_jax.data.dataset import DataError
from mhe_jax.data.tables.columns import Columns
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.documents import CorpusText
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.settings import option


@dataclasses.dataclass(kw_only=True)
class XmcText(CorpusText):
    """Documents in any layout that `mhe_jax.data.texts.formats.layouts` tells of, and what is read from each.

    path: the folder.
    text_column: of CSV, TSV and Parquet, the column of texts; several, separated by commas, are joined by spaces. Empty
      takes `text`, behind `title` where there is one.
    label_column: of the same, the column of labels, or several, separated by commas; empty takes `label`, `labels`,
      `label_1`, `label_2` and the like, or else the columns of noughts and ones.
    label_separator: of the same, what separates labels within a cell; empty finds out whether it is `;` or `|`, or
      cells are lists.
    """

    path: str = option(free=True)
    text_column: str = ""
    label_column: str = ""
    label_separator: str = ""

    def read(self) -> Corpora:
        if not self.path:
            raise DataError("config.data.path is empty; give the folder of the data set")
        return read_corpora(self.path, Columns(self.text_column, self.label_column, self.label_separator))
