"""Face data sets on disk: a folder for each person, or the files that face recognition data is shared as."""

import dataclasses

from mhe_jax.data.dataset import require_one_of
from mhe_jax.data.faces.encoded import EncodedFaces, Identities
from mhe_jax.data.faces.formats.names import read_names
from mhe_jax.data.faces.formats.records import open_records
from mhe_jax.data.images.file_sources import FileSource, open_files, tell_large_groups
from mhe_jax.data.images.folder import require_no_keys, scan, split_folder
from mhe_jax.data.images.folder_source import FolderSource
from mhe_jax.data.images.layouts import LAYOUTS, TRAIN_NAMES, find_files


@dataclasses.dataclass(kw_only=True)
class FaceFolder(EncodedFaces):
    """`path` holds train/<person>/*.jpg, or tar shards, Parquet or Arrow files; people are sorted by name.

    layout, image_key, label_key: of such files, see `mhe_jax.data.images.folder.ImageFolder`; a label is a person.
    """

    layout: str = "auto"
    image_key: str = ""
    label_key: str = ""

    def __post_init__(self):
        super().__post_init__()
        require_one_of("layout", self.layout, LAYOUTS)

    def identities(self) -> Identities:
        source: FolderSource | FileSource
        # Of other splits the pictures are those that pairs name.
        if files := find_files(self.path, self.layout):
            source, _ = open_files(files._replace(evaluate=()), self.image_key, self.label_key)
            if self.streamed:
                tell_large_groups(source)
        else:
            require_no_keys(self.path, self.image_key, self.label_key)
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
