"""PNGs whose chunks lie about their length."""

import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images import decode, png


def save(**options):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(256, size=(8, 8), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def with_length(data, length):
    """The file with another length of its pixels' chunk."""
    place = data.index(b"IDAT") - 4
    return data[:place] + length.to_bytes(4, "big") + data[place + 4 :]


def test_a_png_without_its_end_is_cut():
    whole = save(dpi=(72, 72))
    assert not png.is_cut(whole)
    assert not png.is_cut(whole + b"\0" * 50)
    assert not png.is_cut(b"no image")
    assert all(png.is_cut(whole[:end]) for end in range(8, len(whole)))
    assert png.is_cut(with_length(whole, 2**32 - 1))


def test_the_size_is_that_of_the_header():
    assert png.frame_size(save()) == (8, 8)
    assert png.frame_size(save()[:20]) is None
    assert png.frame_size(b"no image") is None


@pytest.mark.parametrize("length", [0xD5000053, 2**31, 0x170053])
def test_no_memory_is_taken_for_what_is_not_there(length, tmp_path):
    (tmp_path / "a.png").write_bytes(with_length(save(), length))
    # All pixels are there: Pillow, which reads as much as there is, finds them.
    assert decode.decode((tmp_path / "a.png").read_bytes(), 1, "a.png").shape == (8, 8, 1)
    code = (
        "import resource, sys; from mhe_jax.data.images import decode\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data, before = open(sys.argv[1], 'rb').read(), used()\n"
        "decode.decode(data, 1, 'it')\n"
        "print(used() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50 * 1024
