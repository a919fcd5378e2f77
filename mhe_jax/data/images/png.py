"""What the bytes of a PNG say of it, without decoding anything."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its data: length, kind, checksum


def frame_size(data: bytes) -> tuple[int, int] | None:
    """(width, height); None where the bytes are no PNG."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def is_deep(data: bytes) -> bool:
    """Whether a PNG has 16 bits a channel."""
    return data[24:25] == b"\x10"


def is_cut(data: bytes) -> bool:
    """A PNG with a chunk that is longer than the file, or without its end.

    OpenCV takes the memory that a chunk announces, up to 4 GiB for some hundred bytes, before it looks whether the file
    has so much; and of a file without its end it returns the upper part.
    """
    if not data.startswith(_SIGNATURE):
        return False
    place = len(_SIGNATURE)
    while place + _AROUND <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += _AROUND + length
        if kind == b"IEND":
            return place > len(data)
    return True
