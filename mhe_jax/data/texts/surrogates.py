"""Halves of surrogate pairs, which are not text."""


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, as a cut-off emoji leaves behind in JSON."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
