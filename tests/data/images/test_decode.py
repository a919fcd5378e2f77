import contextlib
import errno
import io
import os
import socket
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from mhe_jax.data.images import decode


def encode(image, kind, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def smooth():
    small = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(small).resize((60, 40), PIL.Image.Resampling.BICUBIC))


@pytest.fixture(params=["opencv", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(decode, "cv2", None)
    return request.param


@pytest.mark.usefixtures("decoder")
def test_png_is_exact_in_rgb_order(smooth):
    np.testing.assert_array_equal(decode.decode(encode(smooth, "PNG"), 3, "x"), smooth)


@pytest.mark.usefixtures("decoder")
def test_grey_and_one_bit_and_palette_files_decode_to_either_channel_count(smooth):
    bits = np.random.default_rng(0).integers(0, 2, (9, 7)).astype(bool)
    for channels in (1, 3):
        image = decode.decode(encode(bits, "PNG"), channels, "x")
        np.testing.assert_array_equal(image, np.repeat(bits[:, :, None] * np.uint8(255), channels, axis=2))
    buffer = io.BytesIO()
    PIL.Image.fromarray(smooth).quantize(16).save(buffer, "PNG")
    expected = np.asarray(PIL.Image.open(buffer).convert("RGB"))
    np.testing.assert_array_equal(decode.decode(buffer.getvalue(), 3, "x"), expected)
    grey = decode.decode(encode(smooth, "PNG"), 1, "x")
    assert np.abs(grey[:, :, 0] - smooth @ [0.299, 0.587, 0.114]).max() < 1.5


@pytest.mark.usefixtures("decoder")
def test_jpeg_is_decoded_as_stored_whatever_its_orientation_tag_says(smooth):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees when showing
    data = encode(smooth, "JPEG", quality=95, exif=exif)
    image = decode.decode(data, 3, "x")
    assert image.shape == smooth.shape
    assert np.abs(image.astype(int) - smooth).mean() < 4


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_bytes_name_the_file(smooth, damage, kind):
    data = encode(smooth, kind)
    data = {"cut": data[: len(data) // 2], "empty": b"", "text": b"no image at all"}[damage]
    with pytest.raises(decode.BadExample, match=r"dir/file\.jpg: cannot be decoded"):
        decode.decode(data, 3, "dir/file.jpg")


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_eight_are_taken(kind, channels):
    values = np.linspace(0, 65535, 48 * 50).reshape(48, 50).astype(np.uint16)
    image = decode.decode(encode(values, kind), channels, "x")
    np.testing.assert_array_equal(image, np.repeat((values >> 8).astype(np.uint8)[:, :, None], channels, axis=2))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("white", [65535, 4095, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_deep_grey_maps_the_upper_eight_bits_are_taken_whatever_their_white_is(white, channels):
    values = np.linspace(0, white, 48 * 50).astype(np.uint16).reshape(48, 50)
    expected = (np.rint(values / white * 65535).astype(np.uint16) >> 8).astype(np.uint8)
    numbers = " ".join(map(str, values.ravel().tolist())).encode()
    for kind, pixels in ((b"P5", values.astype(">u2").tobytes()), (b"P2", numbers)):
        image = decode.decode(b"%s\n50 48\n%d\n%s\n" % (kind, white, pixels), channels, "a.pgm")
        np.testing.assert_array_equal(image, np.repeat(expected[:, :, None], channels, axis=2))


@pytest.mark.usefixtures("decoder")
def test_floating_point_pixels_are_scaled_or_refused():
    values = np.linspace(0, 1, 48 * 50, dtype=np.float32).reshape(48, 50)
    image = decode.decode(encode(values, "TIFF"), 3, "x")
    np.testing.assert_array_equal(image[:, :, 1], np.rint(values * 255))
    assert len(np.unique(image)) == 256
    for wrong in (values * 255, values - 1, np.where(values > 0.5, np.nan, values)):
        with pytest.raises(decode.BadExample, match=r"^a\.tif: cannot .*: its floating-point pixels reach from .* to "):
            decode.decode(encode(wrong.astype(np.float32), "TIFF"), 3, "a.tif")


@pytest.mark.usefixtures("decoder")
def test_whole_numbers_of_32_bits_are_refused():
    values = np.linspace(300, 63300, 48 * 50).reshape(48, 50).astype(np.int32)
    with pytest.raises(decode.BadExample, match=r"a\.tif: .* of a scale that is not told: save it with 8 or 16 bits"):
        decode.decode(encode(values, "TIFF"), 3, "a.tif")


def png(width, height):
    """A PNG of some 100 kB or less, black, whose size is what its header says."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def jpeg(width, height):
    """A JPEG of 8x8 pixels, whose size is what its header says."""
    data = encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("make", [png, jpeg])
@pytest.mark.parametrize(("size", "reason"), [((36_000, 36_000), "exceeds limit of"), ((65_500, 1), "65500x1 pixels")])
def test_a_header_that_announces_too_much_is_refused_before_anything_is_decoded(monkeypatch, make, size, reason):
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    if decode.cv2 is not None:
        monkeypatch.setattr(decode.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(decode.BadExample, match=rf"a\.png: cannot be decoded as an image: .*{reason}"):
        decode.decode(make(*size), 3, "a.png")


def test_of_a_jpeg_that_opencv_decodes_nothing_is_asked_of_pillow(smooth, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr(PIL.Image, "open", lambda *_: pytest.fail("it was opened"))
    for channels in (1, 3):
        assert decode.decode(encode(smooth, "JPEG", progressive=True), channels, "x").shape == (40, 60, channels)


@pytest.mark.parametrize("limit", [None, 60 * 40, 60 * 40 - 1])
def test_pillows_limit_is_that_of_jpegs_too(smooth, monkeypatch, limit):
    pytest.importorskip("cv2")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    warned = pytest.warns(PIL.Image.DecompressionBombWarning) if limit == 60 * 40 - 1 else contextlib.nullcontext()
    with warned:
        assert decode.decode(encode(smooth, "JPEG"), 3, "x").shape == smooth.shape


def test_formats_that_start_other_programs_are_refused():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(decode.BadExample, match=r"a\.jpg: .*: EPS is not one of JPEG, "):
        decode.decode(postscript, 3, "a.jpg")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # the system's limit is some 100 bytes


MAKE = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
    "closed folder": lambda path: path.mkdir(mode=0),
    "socket": make_socket,
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_read(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    path = tmp_path / "a.jpg"
    MAKE[kind](path)
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(decode.BadExample, match=r"a\.jpg: cannot be read: it is a folder, a pipe or a device, not"):
        decode.read_bytes(path)
    assert os.listdir("/proc/self/fd") == open_before


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    """Each look is a message to the server of a network disk."""
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)) * 1000)
    looks = []
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("it was looked at by its name"))
    monkeypatch.setattr(os, "fstat", lambda descriptor, real=os.fstat: looks.append(1) or real(descriptor))
    assert decode.read_bytes(f"{tmp_path}/a.jpg") == bytes(range(256)) * 1000
    assert looks == [1]


def test_files_longer_than_they_say_are_read_to_their_end(tmp_path, monkeypatch):
    assert decode.read_bytes("/proc/self/maps").count(b"\n") > 10  # its size is said to be 0
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)) * 9)
    monkeypatch.setattr(os, "read", lambda descriptor, size, real=os.read: real(descriptor, min(size, 100)))
    assert decode.read_bytes(tmp_path / "a.jpg") == bytes(range(256)) * 9


def test_a_file_that_is_leased_to_another_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"whole")

    def leased(path, flags, real=os.open):
        if flags & os.O_NONBLOCK:
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
        return real(path, flags)

    monkeypatch.setattr(os, "open", leased)
    assert decode.read_bytes(tmp_path / "a.jpg") == b"whole"


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refused(*_):  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(decode.BadExample, match=r"a\.jpg: cannot be read: Permission denied$"):
        decode.read_bytes(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(decode.BadExample, match=r"none\.png: cannot be read: No such file"):
        decode.read_bytes(tmp_path / "none.png")
