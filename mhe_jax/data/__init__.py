"""Image data sets and the feeds that turn them into batches; knows files, knows no model."""

from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data.cifar import Cifar10, Cifar100
from mhe_jax.data.dataset import ImageData
from mhe_jax.data.glyphs import Glyphs
from mhe_jax.data.image_folder import ImageFolder, ImageNet
from mhe_jax.data.synthetic import Synthetic
from mhe_jax.data.tfds_images import TfdsImages

DATA = {
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "glyphs": Glyphs,
    "image_folder": ImageFolder,
    "imagenet": ImageNet,
    "synthetic": Synthetic,
    "tfds": TfdsImages,
}


def build_data(section: ConfigDict) -> ImageData:
    """The data set of `config.data`; reads no file. Raises ValueError for unknown names, fields and values."""
    return registry.build(DATA, section, "config.data")
