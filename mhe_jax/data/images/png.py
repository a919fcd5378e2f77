"""What the bytes of a PNG say of it, without decoding anything."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its data: length, kind, checksum


def is_cut(data: bytes) -> bool:
    """A PNG with a chunk that is longer than the file, or without its end.

    OpenCV takes the memory that a chunk announces, up to 4 GiB for a file of some hundred bytes, before it looks whether
    the file has so much; and of a file without its end it returns the upper part.
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
