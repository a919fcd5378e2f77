"""Encoded bytes to pixels: by OpenCV where it is installed (faster), and by Pillow otherwise."""

import importlib
import importlib.util
import io
import os
import pathlib
import stat

import numpy as np
import PIL.Image

from mhe_jax.data.dataset import BadExample
from mhe_jax.data.images import jpeg, png

cv2 = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None

# Pillow knows more formats, of which some start other programs.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_DEEP = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of more than 8 bits
# The longer side in shorter ones: a line of pixels, resized by its shorter side, would fill the memory.
_THINNEST = 1000
_MOST = 1 << 62  # pixels of a picture whose header announces more than Pillow opens
_BLOCK = 1 << 16  # read at a time of a file that grows
_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}  # OpenCV's bits, as in IMREAD_REDUCED_GRAYSCALE_2


def read_bytes(path: str | pathlib.Path) -> bytes:
    """The file's content; BadExample naming it if it cannot be read."""
    try:
        descriptor = _open(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(path)
            data = os.read(descriptor, status.st_size + 1)
            if len(data) == status.st_size:  # less than was asked for: its end
                return data
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


def decode(data: bytes, channels: int, where: str, reduction: int = 1) -> np.ndarray:
    """Pixels of an encoded image.

    Of 16 bits the upper eight are taken, and floating-point pixels, which must lie in [0, 1], are scaled to 0 .. 255.

    Args:
      data: JPEG, PNG or another of `_FORMATS`.
      channels: 3 for RGB, 1 for grey.
      where: file or record, for the message.
      reduction: 1, 2, 4 or 8. Of a JPEG whose size `jpeg.frame_size` knows, libjpeg may leave out the frequencies that
        a picture of so many times smaller sides has no place for, which takes less time; others come whole.

    Returns:
      uint8 [h, w, channels], in the stored orientation (EXIF is ignored, as by torchvision); sides that were reduced
      are rounded up.

    Raises:
      BadExample: if the bytes are not a whole image, or one of more pixels than Pillow's limit, or of another depth.
    """
    try:
        # Most pictures are such, and opening one with Pillow may take as long as decoding it.
        image = _with_opencv(data, channels, reduction) if _is_ordinary(data) else None
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


def pixels(data: bytes) -> int:
    """Pixels of an encoded image by its header, 0 for bytes that `decode` refuses. Nothing is decoded."""
    if (size := png.frame_size(data) or jpeg.frame_size(data)) is not None:
        return size[0] * size[1]
    try:
        # By name: some of the other formats decode all of a picture when it is opened. MPO is opened as a JPEG.
        with PIL.Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name != "MPO"]) as picture:
            return picture.width * picture.height
    except PIL.Image.DecompressionBombError:
        return _MOST
    except Exception:  # damaged bytes make Pillow fail in any way
        return 0


def _unusable(picture: PIL.Image.Image) -> str | None:
    """What its header says against an image, or None."""
    if picture.format not in _FORMATS:
        return f"{picture.format} is not one of {', '.join(_FORMATS)}"
    if max(picture.size) > _THINNEST * min(picture.size):
        return f"it has {picture.width}x{picture.height} pixels, one side more than {_THINNEST} times the other"
    if picture.mode == "I" and picture.format not in ("PNG", "PPM"):  # which have 16 bits at most, scaled by Pillow
        return "its pixels are whole numbers of 32 bits, of a scale that is not told: save it with 8 or 16 bits"
    return None


def _is_ordinary(data: bytes) -> bool:
    """Whether Pillow, asked about the header of a JPEG or PNG, would have nothing against it and no warning."""
    size, limit = jpeg.frame_size(data) or png.frame_size(data), PIL.Image.MAX_IMAGE_PIXELS
    if size is None or max(size) > _THINNEST * min(size) or (data[:1] != b"\xff" and png.is_deep(data)):
        return False
    return limit is None or size[0] * size[1] <= limit


def _with_opencv(data: bytes, channels: int, reduction: int = 1) -> np.ndarray | None:
    """Pixels as `decode` returns them; None where OpenCV is not installed or cannot be trusted with the data."""
    if cv2 is None or jpeg.is_cut(data) or png.is_cut(data):
        return None
    # libjpeg can write RGB itself; of the other decoders, OpenCV's versions differ in who turns the order round.
    in_order = channels == 3 and data[:2] == b"\xff\xd8"
    colour = cv2.IMREAD_COLOR_RGB if in_order else cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), colour | _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None
    if image is None:
        return None
    if channels == 1:
        return image[:, :, None]
    return image if in_order else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
