"""A server in a process of its own: its socket, its signals, and an end at which whoever was taken in has an answer."""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mhe_jax.serving.app import application
from mhe_jax.serving.gate import Gate
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.served import Served

_BACKLOG = 2048
_SWITCH_SECONDS = 5e-4
_CLOSING_SECONDS = 1.0  # for clients to ask once more on the connections that they have
_IDLE_SECONDS = 30  # that a connection may say nothing, or take to say what it wants
_TICKS = 10  # of uvicorn in a second


class Server(uvicorn.Server):
    """uvicorn's, with an end in three parts, at SIGTERM or SIGINT.

    For `drain_seconds` it is not ready and goes on, so that balancers see it. Then it listens no more, and each answer
    closes its connection, so that no client asks on one that is about to go. When all are closed, or a while later, it
    ends, with status 0. A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, drain_seconds: float):
        super().__init__(config)
        self._gate, self._drain_seconds, self._end = gate, drain_seconds, float("inf")
        self._waiting: dict[tuple[Any, Any], float] = {}  # since when, by connection and its last request

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gate.draining:
            self.should_exit = self.force_exit = True
        self._gate.draining = True
        self._end = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        if not self._gate.closing and time.monotonic() >= self._end:
            self._gate.closing = True
            for server in self.servers:
                server.close()
            self._end += _CLOSING_SECONDS
        elif self._gate.closing:
            self.should_exit |= time.monotonic() >= self._end or not self.server_state.connections
        if counter % _TICKS == 0:
            self._close_the_silent()
        return await super().on_tick(counter)

    def _close_the_silent(self) -> None:
        """Closes connections whose next request does not come, or has a head without an end: uvicorn would wait on."""
        now = time.monotonic()
        idle = []
        for connection in cast(set[HttpToolsProtocol], self.server_state.connections):
            if not connection.cycle or connection.cycle.response_complete:
                idle.append((connection, connection.cycle))
        self._waiting = {key: self._waiting.get(key, now) for key in idle}
        for (connection, _), since in self._waiting.items():
            if now - since > _IDLE_SECONDS:
                connection.transport.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket with an address, before anything is loaded: clients are refused until it listens.

    Raises:
      OSError: if the address is in use, or not one of this machine; the message names it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise OSError(f"{host}:{port} cannot be listened on: {error}") from None
    return listening


def serve(models: Sequence[Served], options: Options, metrics: Metrics, listening: socket.socket) -> None:
    """Answers for opened runs until a signal ends it, and prints where it listens when it does.

    SIGHUP looks for newer weights at once.
    """
    gate = application(models, options, metrics)
    config = uvicorn.Config(
        gate,
        http=HttpToolsProtocol,
        backlog=_BACKLOG,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks where a request comes from
        ws="none",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(options.body_seconds + options.answer_seconds) + 1,
    )
    config.load()
    # Whatever strangers send is an answer to them, and no line in the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # What was loaded stays: looking through it for garbage would take a quarter of a second, again and again.
    gc.freeze()
    # A thread that computes lets go of Python's lock this often: sockets should not wait for it longer.
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.getLogger(__name__.rpartition(".")[0]).setLevel(logging.INFO)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_answer(Server(config, gate, options.drain_seconds), models, listening))


async def _answer(server: Server, models: Sequence[Served], listening: socket.socket) -> None:
    loop, tasks = asyncio.get_running_loop(), set()

    def reload() -> None:
        for served in models:
            tasks.add(task := loop.create_task(served.reload()))
            task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await server.serve(sockets=[listening])
