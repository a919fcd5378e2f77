"""Encoded bytes to pixels, with torchvision's geometry.

Decoding is OpenCV's where it is installed (faster) and Pillow's otherwise. Resizing is always Pillow's, which is what
torchvision does to a PIL image: an antialiased triangle filter.
"""

import importlib
import importlib.util
import io
import math
import os
import pathlib
import stat

import numpy as np
import PIL.Image

from mhe_jax.data.dataset import BadExample
from mhe_jax.data.images import jpeg

cv2 = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None

AREA_RANGE = (0.08, 1.0)  # torchvision RandomResizedCrop's defaults
ASPECT_RANGE = (3 / 4, 4 / 3)
# Pillow knows more formats, of which some start other programs.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_DEEP = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of more than 8 bits
# The longer side in shorter ones: a line of pixels, resized by its shorter side, would fill the memory.
_THINNEST = 1000
_BLOCK = 1 << 16  # read at a time of a file that grows


def read_bytes(path: str | pathlib.Path) -> bytes:
    """The file's content; BadExample naming it if it cannot be read."""
    try:
        descriptor = _open(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(path)
            data = os.read(descriptor, status.st_size + 1)
            while more := os.read(descriptor, _BLOCK):
                data += more
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadExample(f"{path}: cannot be read: {error.strerror}") from error


def _open(path: str | pathlib.Path) -> int:
    """A descriptor of what lies there, without a look at it before: on a network disk each look is a message more."""
    try:
        # Does not wait for a pipe's other end, and takes no terminal over.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if not stat.S_ISREG(os.stat(path).st_mode):  # sockets, and what this user may not open
            raise _no_file(path) from error
        if isinstance(error, BlockingIOError):  # leased to a file server's client, who gives it back while one waits
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise


def _no_file(path: str | pathlib.Path) -> BadExample:
    return BadExample(f"{path}: cannot be read: it is a folder, a pipe or a device, not a file")


def decode(data: bytes, channels: int, where: str) -> np.ndarray:
    """Pixels of an encoded image.

    Of 16 bits the upper eight are taken, and floating-point pixels, which must lie in [0, 1], are scaled to 0 .. 255.

    Args:
      data: JPEG, PNG or another of `_FORMATS`.
      channels: 3 for RGB, 1 for grey.
      where: file or record, for the message.

    Returns:
      uint8 [h, w, channels], in the stored orientation (EXIF is ignored, as by torchvision).

    Raises:
      BadExample: if the bytes are not a whole image, or one of more pixels than Pillow's limit, or of another depth.
    """
    try:
        # Most pictures are such, and opening one with Pillow may take as long as decoding it.
        image = _with_opencv(data, channels) if _is_ordinary_jpeg(data) else None
        if image is not None:
            return image
        with PIL.Image.open(io.BytesIO(data)) as picture:  # reads the header alone, and keeps the limit
            reason = _unusable(picture)
            if reason is None:
                return _deep(picture, channels) if picture.mode in _DEEP else _eight_bits(data, picture, channels)
    except PIL.UnidentifiedImageError:
        reason = f"{len(data)} bytes in no known format"
    except Exception as error:  # damaged bytes make a decoder fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
    raise BadExample(f"{where}: cannot be decoded as an image: {reason}")


def _unusable(picture: PIL.Image.Image) -> str | None:
    """What its header says against an image, or None."""
    if picture.format not in _FORMATS:
        return f"{picture.format} is not one of {', '.join(_FORMATS)}"
    if max(picture.size) > _THINNEST * min(picture.size):
        return f"it has {picture.width}x{picture.height} pixels, one side more than {_THINNEST} times the other"
    if picture.mode == "I" and picture.format not in ("PNG", "PPM"):  # which have 16 bits at most, scaled by Pillow
        return "its pixels are whole numbers of 32 bits, of a scale that is not told: save it with 8 or 16 bits"
    return None


def _is_ordinary_jpeg(data: bytes) -> bool:
    """Whether Pillow, asked about the header, would have nothing against it and no warning."""
    size, limit = jpeg.frame_size(data), PIL.Image.MAX_IMAGE_PIXELS
    if size is None or max(size) > _THINNEST * min(size):
        return False
    return limit is None or size[0] * size[1] <= limit


def _with_opencv(data: bytes, channels: int) -> np.ndarray | None:
    """Pixels as `decode` returns them; None where OpenCV is not installed or cannot be trusted with the data."""
    if cv2 is None or jpeg.is_cut(data):
        return None
    flags = (cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if image is None:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if channels == 3 else image[:, :, None]


def _eight_bits(data: bytes, picture: PIL.Image.Image, channels: int) -> np.ndarray:
    image = _with_opencv(data, channels)
    if image is not None:
        return image
    return np.array(picture.convert("RGB" if channels == 3 else "L")).reshape(*picture.size[::-1], channels)


def _deep(picture: PIL.Image.Image, channels: int) -> np.ndarray:
    """Grey of more than 8 bits, which decoders clip, at 255 or at 1, instead of scaling it."""
    pixels = np.asarray(picture)
    if picture.mode == "F":
        low, high = float(pixels.min()), float(pixels.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(f"its floating-point pixels reach from {low:g} to {high:g}; they must lie in [0, 1]")
        pixels = np.rint(pixels * 255)
    else:
        pixels = pixels >> 8
    return np.repeat(pixels.astype(np.uint8)[:, :, None], channels, axis=2)


def resize(image: np.ndarray, size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Resizes `box` = (left, top, right, bottom) of uint8 [h, w, C] to `size` = (height, width), antialiased."""
    picture = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if box is not None:
        picture = picture.crop(box)
    resized = picture.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(*size, image.shape[2])


def resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """torchvision Resize(size): the shorter side becomes `size`, the longer int(size * long / short)."""
    height, width = image.shape[:2]
    if height <= width:
        return resize(image, (size, int(size * width / height)))
    return resize(image, (int(size * height / width), size))


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """torchvision CenterCrop of an image that is at least `size` = (height, width)."""
    top, left = (round((have - want) / 2) for have, want in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


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


def random_resized_crop_flip(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Training view: RandomResizedCrop(size), then mirrored with probability one half. uint8 [size, size, C]."""
    cropped = resize(image, (size, size), random_resized_crop_box(image.shape[0], image.shape[1], rng))
    return cropped[:, ::-1] if rng.random() < 0.5 else cropped
