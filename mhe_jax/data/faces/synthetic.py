"""Pictures made from the number of their identity: for tests, memory checks and speed with millions of identities."""

import dataclasses

import numpy as np

from mhe_jax.data.dataset import ArraySplit, PairedSplit
from mhe_jax.data.faces.dataset import FaceData, identity_facts
from mhe_jax.data.faces.pairing import alternate, require_num_pairs
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.synthetic import make_images


@dataclasses.dataclass(kw_only=True)
class FaceSynthetic(FaceData):
    """Data 'synthetic' with pairs to verify: each identity a coarse pattern, each picture the pattern with noise.

    Identities are drawn uniformly; nothing is held per identity. The verification set 'synthetic' asks about the first
    identities of training in new pictures, so that there is something to learn even with few pictures of millions.

    image_shape: (height, width, channels).
    num_examples: training pictures.
    num_pairs: of the verification set, half of them of one identity.
    seed: of labels, noise and pairs.
    """

    num_classes: int
    image_shape: tuple[int, int, int] = (112, 112, 3)
    num_examples: int = 2_000
    num_pairs: int = 200
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.num_classes < 2:
            raise ValueError(f"config.data.num_classes is {self.num_classes}; 'face_synthetic' needs at least 2")
        if self.num_examples < 1:
            raise ValueError(f"config.data.num_examples is {self.num_examples}; it must be at least 1")
        require_num_pairs(self.num_pairs)

    def load(self) -> Images:
        rng = np.random.default_rng(self.seed)
        labels = rng.integers(self.num_classes, size=self.num_examples, dtype=np.int32)
        train = ArraySplit(make_images(labels, self.image_shape, rng), labels)
        pictures = np.arange(2 * self.num_pairs).reshape(-1, 2)
        pairs = alternate("synthetic", pictures[0::2], pictures[1::2])
        shown = np.empty((self.num_pairs, 2), np.int32)
        shown[:, 0] = np.resize(labels, self.num_pairs)
        others = rng.integers(1, self.num_classes, size=self.num_pairs, dtype=np.int64)
        shown[:, 1] = np.where(pairs.same, shown[:, 0], (shown[:, 0] + others) % self.num_classes)
        verified = make_images(shown.ravel(), self.image_shape, rng)
        return Images(
            train,
            PairedSplit(ArraySplit(verified, np.zeros(len(verified), np.int32)), (pairs,)),
            (),
            facts=identity_facts(labels, self.num_classes, "data 'face_synthetic'"),
        )
