"""Why a request has no answer."""


class Refused(Exception):
    """An answer other than 200: its status, one line that says why, and headers."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None):
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


def busy(reason: str) -> Refused:
    """429: the same request may have an answer a second later."""
    return Refused(429, f"{reason}: try again", {"Retry-After": "1"})
