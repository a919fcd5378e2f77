"""Names of any kind in messages: on one line, of reasonable length, and told apart where they look alike."""

import re
import unicodedata
from collections.abc import Iterable

_LONGEST = 2000  # characters of a message
# What moves a terminal's cursor, ends a line or turns the direction of writing, and bytes that are not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(message: str) -> str:
    """A message with its control characters written as escapes, and its middle left out if it is very long."""
    if len(message) > _LONGEST:
        half = _LONGEST // 2
        message = f"{message[:half]} [{len(message) - 2 * half} characters left out] {message[-half:]}"
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), message)


def look_alike(name: str, others: Iterable[str]) -> str:
    """A clause that says how a name differs from one of the others that reads like it; empty if none does."""
    for what, form in _FORMS.items():
        for other in others:
            if other != name and form(other) == form(name):
                return f"; {other!a} there differs from {name!a} in {what}"
    return ""


_FORMS = {
    "its Unicode form": lambda name: unicodedata.normalize("NFC", name),
    "capitals": lambda name: unicodedata.normalize("NFC", name).casefold(),
    "white space or width": lambda name: "".join(unicodedata.normalize("NFKC", name).casefold().split()),
}
