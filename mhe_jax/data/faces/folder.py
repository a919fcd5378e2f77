"""Face data sets on disk: a folder for each person, or the records that face recognition data is shared as."""

import dataclasses

from mhe_jax.data.faces.encoded import EncodedFaces, Identities
from mhe_jax.data.faces.formats.names import read_names
from mhe_jax.data.faces.formats.records import open_records
from mhe_jax.data.images.folder import TRAIN_NAMES, scan, split_folder


@dataclasses.dataclass(kw_only=True)
class FaceFolder(EncodedFaces):
    """`path` holds train/<person>/*.jpg; people are sorted by name."""

    def identities(self) -> Identities:
        source = scan(split_folder(self.path, TRAIN_NAMES))
        return Identities(source, source.labels, len(source.class_names), source.class_names)


@dataclasses.dataclass(kw_only=True)
class FaceRecords(EncodedFaces):
    """`path` holds train.rec, train.idx and property, as insightface's MS1M and WebFace sets do: see open_records.

    A file classes.txt beside them names the identities, one a line.
    """

    def identities(self) -> Identities:
        source = open_records(self.path, self.on_bad_example)
        labels = source.read_labels()
        if self.on_bad_example == "skip":
            labels = labels[labels != -1]  # of damaged records
        return Identities(source, labels, source.num_classes, read_names(self.path, source.num_classes))
