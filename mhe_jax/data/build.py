"""The data sets by name."""

from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data.faces.folder import FaceFolder, FaceRecords
from mhe_jax.data.faces.glyphs import FaceGlyphs
from mhe_jax.data.faces.synthetic import FaceSynthetic
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.features.folder import FeatureFolder, MultiLabelFolder
from mhe_jax.data.images.cifar import Cifar10, Cifar100
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.images.folder import ImageFolder, ImageNet
from mhe_jax.data.images.glyphs import Glyphs
from mhe_jax.data.images.labelled import LabelledImages
from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.data.images.tfds import TfdsImages
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.folder import SparseFolder
from mhe_jax.data.texts.sparse.tokens_and_words import TokensAndWords
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.data.texts.synthetic import SyntheticText
from mhe_jax.data.texts.unicode_names import UnicodeNames

DATA = {
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "face_folder": FaceFolder,
    "face_glyphs": FaceGlyphs,
    "face_records": FaceRecords,
    "face_synthetic": FaceSynthetic,
    "features": FeatureFolder,
    "features_multilabel": MultiLabelFolder,
    "features_words": EmbeddedWords,
    "glyphs": Glyphs,
    "image_folder": ImageFolder,
    "imagenet": ImageNet,
    "labelled_images": LabelledImages,
    "sparse": SparseFolder,
    "synthetic": Synthetic,
    "synthetic_text": SyntheticText,
    "tfds": TfdsImages,
    "unicode": UnicodeNames,
    "words": WordData,
    "xmc": XmcText,
    "xmc_words": TokensAndWords,
}

Data = ImageData | TextData | FeatureData | SparseData


def build_data(section: ConfigDict) -> Data:
    """The data set of `config.data`; reads no file. Raises ValueError for unknown names, fields and values."""
    return registry.build(DATA, section, "config.data")
