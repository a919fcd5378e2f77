"""What training does to a batch of pictures beside the data's own crops and flips: `config.augment`, by recipe."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data.images import erasing, jitter, mixing, policies

POLICIES = {"none": 0.0, "randaugment": policies.BINS - 1.0, "timm": policies.TIMM_LEVELS, "trivial": 0.0}
JITTER = ("brightness", "contrast", "saturation", "hue")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Any augmentation, by its parts; it runs on the device, inside of the jitted step.

    Pictures pass through the policy and the jitter, then through the crops and flips that the data makes on the device,
    and are normalised, erased and mixed.

    policy: 'none'; 'randaugment' as torchvision has it; 'timm', timm's RandAugment `rand-m*-mstd*-inc1`, which applies
      each operation with probability one half; 'trivial', TrivialAugmentWide.
    num_ops: of RandAugment, operations for each picture.
    magnitude: of RandAugment; 0 .. 30 for 'randaugment', 0 .. 10 for 'timm'.
    magnitude_std: of 'timm', the standard deviation of the magnitude from picture to picture.
    jitter: largest changes of brightness, contrast, saturation (factors) and hue (part of the circle, at most 0.5).
    erase: probability of erasing a box of the picture.
    erase_noise: whether noise stands there then, or black.
    mixup: alpha of Mixup's share, which is Beta(alpha, alpha); 0: no Mixup.
    cutmix: that of CutMix; where both are on, each has half of the batches.
    repeats: how often each picture is in a batch, augmented differently (Hoffer et al., CVPR 2020, arXiv 1901.09335;
      Berman et al., arXiv 1902.05509). An epoch has as many steps as without, and as fewer pictures.

    Raises:
      ValueError: for an unknown policy, and for numbers out of range.
    """

    policy: str = "none"
    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.0
    jitter: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    erase: float = 0.0
    erase_noise: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise _wrong("policy", self.policy, f"one of {', '.join(map(repr, POLICIES))}")
        most = POLICIES[self.policy]
        if most and not 0 <= self.magnitude <= most:
            raise _wrong("magnitude", self.magnitude, f"from 0 to {most:g} for {self.policy!r}")
        for field in ("magnitude_std", "mixup", "cutmix"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise _wrong(field, getattr(self, field), "at least 0")
        for field in ("num_ops", "repeats"):
            if not isinstance(getattr(self, field), int) or getattr(self, field) < 1:
                raise _wrong(field, getattr(self, field), "a whole number of at least 1")
        if not 0 <= self.erase <= 1:
            raise _wrong("erase", self.erase, "a probability, from 0 to 1")
        if len(self.jitter) != len(JITTER) or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise _wrong("jitter", self.jitter, f"{', '.join(JITTER)}: none below 0, hue at most 0.5")

    @property
    def mixes(self) -> bool:
        """Whether a picture may belong to two classes."""
        return self.mixup > 0 or self.cutmix > 0

    def distort(self, images: jax.Array, key: jax.Array, mean: tuple[float, ...]) -> jax.Array:
        """Policy and jitter, of which one may be off: uint8 [B, H, W, C].

        Args:
          images: uint8 [B, H, W, C].
          key: of the batch.
          mean: of the pixels in [0, 1], by channel, which timm's warps show from outside.

        Raises:
          ValueError: for pictures of other than 1 or 3 channels.
        """
        policy_key, jitter_key = jax.random.split(key)
        if (self.policy != "none" or any(self.jitter)) and images.shape[-1] not in (1, 3):
            raise ValueError(
                f"config.augment changes colours, of which pictures have 3 or 1, but these have {images.shape[-1]} "
                "channels"
            )
        if self.policy == "randaugment":
            images = policies.randaugment(images, policy_key, self.num_ops, self.magnitude)
        elif self.policy == "timm":
            fill = tuple(float(round(255 * value)) for value in mean)
            given = self.num_ops, self.magnitude, self.magnitude_std, fill
            images = policies.timm_randaugment(images, policy_key, *given)
        elif self.policy == "trivial":
            images = policies.trivial(images, policy_key)
        return jitter.jitter(images, jitter_key, self.jitter) if any(self.jitter) else images

    def erased(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Normalised pictures, float [B, H, W, C], of which some lack a box."""
        return erasing.erase(images, key, self.erase, self.erase_noise) if self.erase else images

    def mixed(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `mixing.mix`."""
        return mixing.mix(images, key, self.mixup, self.cutmix)


def _wrong(field: str, value: Any, right: str) -> ValueError:
    return ValueError(f"config.augment.{field} is {value!r}; it must be {right}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrivialAugment(Augmentation):
    """TrivialAugmentWide alone, which has nothing to tune: Müller and Hutter, ICCV 2021, arXiv 2103.10158."""

    policy: str = "trivial"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchvisionV2(Augmentation):
    """That of torchvision's weights IMAGENET1K_V2 (Vryniotis, "How to train state-of-the-art models", 2021)."""

    policy: str = "trivial"
    erase: float = 0.1
    mixup: float = 0.2
    cutmix: float = 1.0
    repeats: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeiT(Augmentation):
    """That of DeiT (Touvron et al., ICML 2021, arXiv 2012.12877), for ViT-S and ViT-B on ImageNet alone."""

    policy: str = "timm"
    magnitude_std: float = 0.5
    erase: float = 0.25
    erase_noise: bool = True
    mixup: float = 0.8
    cutmix: float = 1.0
    repeats: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtRecipe(DeiT):
    """That of ConvNeXt (Liu et al., CVPR 2022, arXiv 2201.03545): DeiT's without repeated pictures."""

    repeats: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class A1(Augmentation):
    """That of A1, ResNet-50 in 600 epochs (Wightman et al., "ResNet strikes back", 2021, arXiv 2110.00476)."""

    policy: str = "timm"
    magnitude: float = 7.0
    magnitude_std: float = 0.5
    mixup: float = 0.2
    cutmix: float = 1.0
    repeats: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class A2(A1):
    """That of A2, 300 epochs, of the same paper."""

    mixup: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class A3(A2):
    """That of A3, 100 epochs on pictures of 160x160, of the same paper."""

    magnitude: float = 6.0
    repeats: int = 1


RECIPES: dict[str, Callable[..., Augmentation | None]] = {
    "none": lambda: None,
    "own": Augmentation,
    "trivial": TrivialAugment,
    "torchvision": TorchvisionV2,
    "deit": DeiT,
    "convnext": ConvNeXtRecipe,
    "a1": A1,
    "a2": A2,
    "a3": A3,
}


def build_augmentation(section: ConfigDict) -> Augmentation | None:
    """What `config.augment` describes, None for 'none'; raises ValueError naming a wrong field."""
    augmentation: Augmentation | None = registry.build(RECIPES, section, "config.augment")
    return augmentation
