"""The size that a header tells; Pillow's reading of it is the oracle."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images import jpeg


def save(mode="RGB", size=(37, 21), **options):
    buffer = io.BytesIO()
    PIL.Image.effect_noise(size, 50).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def insert(data, *parts):
    """The parts, at the beginning of the header."""
    return data[:2] + b"".join(parts) + data[2:]


THUMBNAIL = segment(0xE1, b"Exif\0\0" + save(size=(160, 120)))
KINDS = {
    "baseline": save(),
    "grey": save("L"),
    "CMYK": save("CMYK"),
    "progressive": save(progressive=True),
    "wide": save(size=(60_000, 70)),
    "restarts": save(restart_marker_blocks=1),
    "thumbnail": insert(save(), THUMBNAIL),
    "long segments": insert(save(), *[segment(0xE2, b"\xff\xc0" * 32766)] * 9),
    "empty segments": insert(save(), *[segment(0xFE, b"")] * 5),
    "fill bytes": insert(save(), b"\xff" * 7, THUMBNAIL, b"\xff" * 500),
    "lone restarts": insert(save(), b"\xff\xd0\xff\xd7"),
    "arithmetic": save().replace(b"\xff\xc0", b"\xff\xc9", 1),
    "progressive arithmetic": save(progressive=True).replace(b"\xff\xc2", b"\xff\xca", 1),
    "lossless": save().replace(b"\xff\xc0", b"\xff\xc3", 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_that_pillow_finds(kind):
    with PIL.Image.open(io.BytesIO(KINDS[kind])) as picture:
        assert jpeg.frame_size(KINDS[kind]) == picture.size


def patched(place, *values):
    """A JPEG with other bytes in its frame: places 4 .. 9 are bits, height, width and components."""
    data = bytearray(save())
    start = data.index(b"\xff\xc0") + place
    data[start : start + len(values)] = values
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff" * 999,
        b"\xff\xd8" + b"\xff\xd0" * 999,
        b"\x89PNG\r\n\x1a\n" + save(),
        insert(save(), b"junk"),
        insert(save(), b"\xff\x00"),
        insert(save(), b"\xff\xd8"),
        insert(save(), b"\xff\xd9"),
        insert(save(), b"\xff\xe0\0\0"),
        insert(save(), b"\xff\xe0\0\1"),
        insert(save(), b"\xff\xe0\xff\xff"),
        save()[: save().index(b"\xff\xc0") + 9],
        patched(4, 12),
        patched(9, 2),
        patched(1, 0xDE),  # a hierarchy of frames
    ],
)
def test_anything_else_is_left_to_others(data):
    assert jpeg.frame_size(data) is None


def test_no_header_is_taken_for_another_size_than_pillow_finds():
    rng = np.random.default_rng(0)
    agreed = 0
    for data in KINDS.values():
        header = data[:700]
        for _ in range(60):
            harmed = bytearray(header if rng.random() < 0.9 else header[: rng.integers(len(header))])
            for place in rng.integers(0, len(harmed), rng.integers(1, 4)) if harmed else ():
                harmed[place] = rng.choice([0, 0xFF, 0xC0, 0xC2, 0xD9, rng.integers(256)])
            found = jpeg.frame_size(bytes(harmed))
            try:
                with PIL.Image.open(io.BytesIO(harmed)) as picture:
                    known = picture.size if picture.format == "JPEG" and harmed.count(b"\xff\xc0") < 2 else None
            except (OSError, SyntaxError, ValueError):
                continue
            if found is not None and known is not None:
                assert found == known
                agreed += 1
    assert agreed > 100


def test_a_jpeg_without_its_end_is_cut():
    assert jpeg.is_cut(save()[:-2])
    assert not jpeg.is_cut(save())
    assert not jpeg.is_cut(save() + b"\0" * 50)
    assert not jpeg.is_cut(b"no image")
