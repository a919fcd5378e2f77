"""Records of a prepared tensorflow-datasets set by number, read without TensorFlow."""

import dataclasses
import functools
import pathlib
from typing import Any

from mhe_jax.data.dataset import DataError


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """Records of one split of the prepared set in `folder`, opened anew in each process that reads."""

    folder: str
    split: str
    image_key: str = "image"
    label_key: str = "label"

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds

        # The encoded bytes are decoded here, so that all data sets share one decoder and its messages.
        return open_builder(self.folder).as_data_source(
            self.split, decoders={self.image_key: tfds.decode.SkipDecoding()}
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def read(self, index: int) -> tuple[bytes, int, str]:
        record = self._records[index]
        return record[self.image_key], int(record[self.label_key]), f"{self.folder} split {self.split!r} record {index}"

    def identity(self) -> tuple[str, str, str, str]:
        version = pathlib.Path(self.folder).name
        return version, self.split, self.image_key, self.label_key


@functools.lru_cache(maxsize=8)
def open_builder(folder: str | pathlib.Path) -> Any:
    """Builder of a prepared set; DataError if its records are not ArrayRecord."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"{folder} is prepared as {builder.info.file_format.value}, which only TensorFlow reads: prepare it "
            "again as array_record with launch/prepare_tfds.py, into another data_dir"
        )
    return builder
