"""What a server allows: one frozen object, made by the command line and read by everything that has a limit."""

import dataclasses

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Options:
    """Limits of a server.

    max_top_k: classes that an answer may have; each program finds so many, and an answer is cut from them.
    max_batch: inputs that go through the model together.
    max_wait: seconds that an input which finds the model idle waits for others; a fifth of it, where none comes.
    max_queue: inputs that wait or are computed, of one run; a request for more is answered 429.
    max_inputs: inputs of a request.
    max_body: bytes of a request.
    max_pixels: of an encoded picture; one of more is refused before it is decoded.
    body_seconds: for a request to arrive whole.
    answer_seconds: from its arrival to its answer.
    reload_seconds: between two looks for newer weights; 0 never looks.
    drain_seconds: that a server which was told to stop still takes requests, so that whoever sends them can notice.
    token: what `Authorization: Bearer` must carry; empty for nothing.
    hosts: names in `Host` that are answered, against pages that let a browser ask for them; empty for all.
    """

    max_top_k: int = 10
    max_batch: int = 64
    max_wait: float = 0.0
    max_queue: int = 1024
    max_inputs: int = 256
    max_body: int = 16 * MIB
    max_pixels: int = 25_000_000
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    reload_seconds: float = 30.0
    drain_seconds: float = 1.0
    token: str = ""
    hosts: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("max_top_k", "max_batch", "max_queue", "max_inputs", "max_body", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("max_wait", "reload_seconds", "drain_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("body_seconds", "answer_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.max_inputs > self.max_queue:
            raise ValueError(f"max_inputs is {self.max_inputs}, more than max_queue, {self.max_queue}, ever takes")
