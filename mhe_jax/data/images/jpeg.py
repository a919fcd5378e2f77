"""What the bytes of a JPEG say of it, without the cost of a parser that reads all of its header."""

_RESTARTS = frozenset(range(0xD0, 0xD8))  # markers without a segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # tables and an extension lie between the frames' numbers
_SEGMENTS = frozenset((0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))  # tables, applications' data and comments


def frame_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the first frame; None where the bytes are no JPEG or anything but an ordinary one.

    Pictures within the picture, as in EXIF, lie in segments and are passed over with them. libjpeg refuses a second
    frame, so that what it decodes is of this size.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    place = 2
    while data[place : place + 1] == b"\xff" and place + 10 <= len(data):
        marker = data[place + 1]
        length = data[place + 2] << 8 | data[place + 3]
        if marker == 0xFF:  # any number of these may stand before a marker
            place += 1
        elif marker in _RESTARTS:
            place += 2
        elif marker in _SEGMENTS and length >= 2:
            place += 2 + length
        elif marker in _FRAMES and data[place + 4] == 8 and data[place + 9] in (1, 3, 4):  # bits, and components
            return data[place + 7] << 8 | data[place + 8], data[place + 5] << 8 | data[place + 6]
        else:
            return None
    return None


def is_cut(data: bytes) -> bool:
    """A JPEG without its end marker: OpenCV would fill the missing part with grey and say nothing."""
    return data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]
