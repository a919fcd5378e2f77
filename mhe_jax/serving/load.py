"""Load on a server, and what came of it: clients that wait for each answer, or requests at a rate that does not.

Plain sockets: on the two cores that a server may have to share with its load, a client library would be most of it.
"""

import asyncio
import collections
import random
import time
import urllib.parse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_LIMIT = 2**24  # bytes of an answer's line or body


class Outcome(NamedTuple):
    """What clients saw: requests a second, percentiles of milliseconds of those answered 200, and others by status."""

    answered: int
    per_second: float
    p50: float
    p95: float
    p99: float
    others: dict[str, int]


class _Seen:
    """Latencies and statuses as they come."""

    def __init__(self):
        self.seconds: list[float] = []
        self.others: collections.Counter[str] = collections.Counter()

    def add(self, status: str, seconds: float) -> None:
        if status == "200":
            self.seconds.append(seconds)
        else:
            self.others[status] += 1

    def outcome(self, duration: float) -> Outcome:
        found = np.percentile(self.seconds, (50, 95, 99)) if self.seconds else np.full(3, np.nan)
        p50, p95, p99 = (1000 * found).tolist()
        return Outcome(len(self.seconds), len(self.seconds) / duration, p50, p95, p99, dict(self.others))


class Connection:
    """One connection that is kept; opened anew where the server closed it."""

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        self._host, self._port, self._name = parts.hostname or "", parts.port or 80, parts.netloc
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """(status, body) of an answer; status 'refused' or 'cut' where there was none."""
        if self._writer is None:
            try:
                opened = await asyncio.open_connection(self._host, self._port, limit=_LIMIT)
            except OSError:
                return "refused", b""
            self._reader, self._writer = opened
        head = f"POST {path} HTTP/1.1\r\nHost: {self._name}\r\nContent-Type: application/json\r\n"
        try:
            self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            content = await self._reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return "cut", b""
        if headers.get("connection") == "close":
            self.close()
        return lines[0].split(" ")[1], content

    def close(self) -> None:
        """Hangs up."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


async def closed_loop(url: str, path: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """`clients` that each send a request when they have the answer to the one before, for some seconds."""
    seen, end = _Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection, place = Connection(url), number
        while (started := time.perf_counter()) < end:
            status, _ = await connection.post(path, bodies[place % len(bodies)])
            seen.add(status, time.perf_counter() - started)
            place += clients
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*map(client, range(clients)))
    return seen.outcome(time.perf_counter() - started)


async def open_loop(
    url: str, path: str, bodies: Sequence[bytes], rate: float, seconds: float, seed: int = 0
) -> Outcome:
    """Requests at the times of a Poisson process of `rate` a second, whether the server keeps up or not.

    Latencies count from the time at which a request was due, so that a server that stops has no better ones.
    """
    seen, draws, idle = _Seen(), random.Random(seed), collections.deque[Connection]()

    async def one(body: bytes, due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        status, _ = await connection.post(path, body)
        seen.add(status, time.perf_counter() - due)
        idle.append(connection)

    started = time.perf_counter()
    due, count, tasks = started, 0, []
    while (due := due + draws.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(bodies[count % len(bodies)], due)))
        count += 1
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return seen.outcome(time.perf_counter() - started)
