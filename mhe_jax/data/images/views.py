"""What training and evaluation see of a picture: crops and resizing with torchvision's geometry.

Resizing is Pillow's antialiased triangle filter, which is what torchvision does to a PIL image, but for `bilinear`.
"""

import math

import numpy as np
import PIL.Image

from mhe_jax.data.images import decode

AREA_RANGE = (0.08, 1.0)  # torchvision RandomResizedCrop's defaults
ASPECT_RANGE = (3 / 4, 4 / 3)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes uint8 [h, w, C] to `size` = (height, width), antialiased; the same array where that is its size."""
    if image.shape[:2] == size:
        return image
    picture = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    resized = picture.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(*size, image.shape[2])


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `resize`, but between the four nearest pixels, as torchvision without antialias, where that skips few of them.

    Above twice the size in both directions, and without OpenCV, it is `resize`.
    """
    height, width = image.shape[:2]
    if decode.cv2 is None or (height > 2 * size[0] and width > 2 * size[1]):
        return resize(image, size)
    resized = decode.cv2.resize(image, size[::-1], interpolation=decode.cv2.INTER_LINEAR)
    return resized.reshape(*size, image.shape[2])


def mirror(image: np.ndarray) -> np.ndarray:
    """Left to right. A view of steps backwards would take NumPy thirty times as long to copy."""
    if decode.cv2 is None:
        return np.ascontiguousarray(image[:, ::-1])
    return decode.cv2.flip(image, 1).reshape(image.shape)


def central(image: np.ndarray, shorter: int, size: tuple[int, int]) -> np.ndarray:
    """Evaluation's view: torchvision's Resize(shorter) and CenterCrop(size = (height, width)) of uint8 [h, w, C].

    Resize makes the shorter side `shorter` and the longer int(shorter * long / short). All of the picture is resized:
    a box of it has edges between pixels, which Pillow rounds, and would differ in the last bit.
    """
    height, width = image.shape[:2]
    if height <= width:
        whole = resize(image, (shorter, int(shorter * width / height)))
    else:
        whole = resize(image, (int(shorter * height / width), shorter))
    # torchvision: int(round((size - crop) / 2)), rounding halves to even.
    top, left = (round((have - want) / 2) for have, want in zip(whole.shape[:2], size, strict=True))
    return whole[top : top + size[0], left : left + size[1]]


def random_resized_crop_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of torchvision's RandomResizedCrop.get_params, with its default ranges.

    Ten tries for a box of a random area and aspect ratio that fits; then the largest central box of an allowed ratio.
    """
    low, high = ASPECT_RANGE
    for _ in range(10):
        target = height * width * rng.uniform(*AREA_RANGE)
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < low:
        h = round(width / low)
    elif width / height > high:
        w = round(height * high)
    top, left = (height - h) // 2, (width - w) // 2
    return left, top, left + w, top + h


def reduction(box: tuple[int, int, int, int], size: int) -> int:
    """How many times smaller, 1, 2, 4 or 8, a picture may be decoded if `box` of it shall have `size` pixels a side."""
    left, top, right, bottom = box
    return next((times for times in (8, 4, 2) if min(right - left, bottom - top) >= times * size), 1)


def cut(image: np.ndarray, box: tuple[int, int, int, int], times: int = 1) -> np.ndarray:
    """`box` of uint8 [h, w, C], a picture that was decoded so many times smaller; at least a pixel."""
    left, top, right, bottom = (round(edge / times) for edge in box)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
