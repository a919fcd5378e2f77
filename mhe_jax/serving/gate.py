"""What stands before all routes: who may ask, how much, and for how long.

A body is read here, whole, before anything looks at it, so that no route meets half of one; and a client that hangs up
takes its inputs out of the queue.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.refused import Refused, busy
from mhe_jax.serving.responses import refusal

# Bodies that are held at a time, in the largest that one may be.
_BODIES = 16
# Answered without a token: what load balancers ask, and the page, which has a field for one.
OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/favicon.svg"})
_OPEN_FOLDER = "/page/"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """ASGI middleware in front of an application.

    Attributes:
      draining: whether the server is about to end, and not ready.
      closing: whether it has begun to: connections are closed after their answer.
    """

    def __init__(self, app: Any, options: Options, metrics: Metrics, routes: Iterable[str]):
        self.draining = self.closing = False
        self._app, self._options, self._metrics, self._routes = app, options, metrics, frozenset(routes)
        self._held = 0

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answer = time.perf_counter(), _Answer(send, self)
        try:
            self._admit(scope)
            await self._answered(scope, receive, answer)
        except Refused as error:
            if not answer.status:
                await refusal(error)(scope, receive, answer)
        finally:
            self._metrics.request(self._route(scope), answer.status or 499, time.perf_counter() - started)

    def _admit(self, scope: dict) -> None:
        """Raises Refused for a host or a caller that may not ask."""
        headers = dict(scope["headers"])
        if self._options.hosts:
            name = _host(headers.get(b"host", b"").decode("latin-1"))
            if name not in self._options.hosts:
                raise Refused(421, f"this server is not {name!r}; mhe serve --host lets it answer to other names")
            # A browser asks for a page of anywhere, without asking back first, and says for which.
            origin = headers.get(b"origin", b"").decode("latin-1")
            if origin and _host(origin.partition("://")[2]) not in self._options.hosts:
                raise Refused(403, "pages of other origins may not ask")
        path = scope["path"]
        if self._options.token and path not in OPEN and not path.startswith(_OPEN_FOLDER):
            expected = f"Bearer {self._options.token}".encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
                raise Refused(401, "the header `Authorization: Bearer TOKEN` is needed", {"WWW-Authenticate": "Bearer"})

    async def _answered(self, scope: dict, receive: Any, send: Any) -> None:
        body = _Body(scope, receive, self._options.max_body, self._hold)
        try:
            try:
                await asyncio.wait_for(body.read(), self._options.body_seconds)
            except TimeoutError:
                raise Refused(408, f"the request did not arrive in {self._options.body_seconds:g} seconds") from None
            await self._while_connected(scope, body, receive, send)
        finally:
            self._held -= body.size

    def _hold(self, size: int) -> None:
        """Counts bytes that have come; raises Refused where there are too many already."""
        if self._held + size > _BODIES * self._options.max_body:
            raise busy("too much is being received")
        self._held += size

    async def _while_connected(self, scope: dict, body: "_Body", receive: Any, send: Any) -> None:
        if body.cut:  # the client is gone
            return
        answering = asyncio.ensure_future(self._app(scope, body.replay, send))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait(
                {answering, gone}, timeout=self._options.answer_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if answering.done():
                answering.result()
            elif not gone.done():
                raise Refused(504, f"there was no answer in {self._options.answer_seconds:g} seconds")
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    def _route(self, scope: dict) -> str:
        """A name of few: what strangers ask for does not become a label."""
        path = scope["path"]
        if path.startswith("/v2/models/"):
            return "/v2/models" + ("/infer" if path.endswith("/infer") else "")
        return path if path in self._routes else "/page" if path.startswith(_OPEN_FOLDER) else "other"


class _Body:
    """The body of a request, read whole.

    size: bytes of it that are held.
    cut: whether the client hung up before its end.
    """

    def __init__(self, scope: dict, receive: Any, most: int, hold: Callable[[int], None]):
        self._receive, self._most, self._hold = receive, most, hold
        self._parts: list[bytes] = []
        self._replayed = self.cut = False
        self.size = 0
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > most:
            raise self._too_large()

    async def read(self) -> None:
        """Reads it; raises Refused if it is larger than it may be."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.cut = True
                return
            part, more = message.get("body", b""), message.get("more_body", False)
            if self.size + len(part) > self._most:
                raise self._too_large()
            self._hold(len(part))
            self.size += len(part)
            self._parts.append(part)

    async def replay(self) -> dict:
        """The body as one message, then nothing more."""
        if self._replayed:
            await asyncio.Event().wait()
        parts, self._parts, self._replayed = self._parts, [], True
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}

    def _too_large(self) -> Refused:
        return Refused(413, f"the request has more than {self._most:,} bytes", {"Connection": "close"})


class _Answer:
    """`send` with the headers of all answers; knows the status."""

    def __init__(self, send: Any, gate: Gate):
        self._send, self._gate, self.status = send, gate, 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *_HEADERS]
            if self._gate.closing:
                headers = [pair for pair in headers if pair[0].lower() != b"connection"] + [(b"connection", b"close")]
            message = {**message, "headers": headers}
        await self._send(message)


def _host(header: str) -> str:
    """The name in `Host`, without the port."""
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0].lower()
