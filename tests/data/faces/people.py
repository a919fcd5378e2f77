"""Pictures of made-up people on disk, and what the tests of conversions ask of files."""

import io

import numpy as np
import PIL.Image

from mhe_jax.data.faces import picture_writers

PEOPLE = {"ann": 3, "bob": 1, "Zoë": 4, "cy d": 2}


def encoded(seed, kind="jpeg"):
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_people(folder):
    """Ten pictures of four people, DIR/<person>/*.jpeg; one is a PNG."""
    for place, (name, count) in enumerate(PEOPLE.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            kind = "png" if (name, number) == ("Zoë", 2) else "jpeg"
            (folder / name / f"{number}.{kind}").write_bytes(encoded(10 * place + number, kind))
    return folder


def tree(folder):
    """Every file below a folder, and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Stop(KeyboardInterrupt):
    pass


def stop_after(monkeypatch, count, target=picture_writers, name="write_record"):
    """Lets `count` calls write(to, bytes) through; the next one stops when half of its bytes are written."""
    original, calls = getattr(target, name), [0]

    def write(to, data):
        calls[0] += 1
        if calls[0] <= count:
            return original(to, data)
        if target is picture_writers:
            to.write(data[: len(data) // 2])
        else:
            original(to, data[: len(data) // 2])
        raise Stop

    monkeypatch.setattr(target, name, write)
