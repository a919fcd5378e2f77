"""Documents with many labels from a folder in any layout of the field."""

import dataclasses

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.documents import CorpusText
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.settings import option


@dataclasses.dataclass(kw_only=True)
class XmcText(CorpusText):
    """Documents in any layout that `mhe_jax.data.texts.formats.layouts` tells of, and what is read from each.

    path: the folder.
    """

    path: str = option(free=True)

    def read(self) -> Corpora:
        if not self.path:
            raise DataError("config.data.path is empty; give the folder of the data set")
        return read_corpora(self.path)
