"""Connections that keep the server waiting."""

import asyncio
import socket
import types

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mhe_jax.serving import server

HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_whoever_does_not_say_what_he_wants_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(server, "_IDLE_SECONDS", 2.0)
    config = uvicorn.Config(
        application, log_level="error", lifespan="off", http=HttpToolsProtocol, timeout_keep_alive=60
    )
    listening = socket.create_server(("127.0.0.1", 0))

    async def ask(reader, writer):
        writer.write(HEAD + b"\r\n")
        return (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    async def clients():
        running = server.Server(config, types.SimpleNamespace(draining=False, closing=False), 0.0)
        serving = asyncio.create_task(running.serve(sockets=[listening]))
        silent, half, second_half, busy = [await asyncio.open_connection(*listening.getsockname()) for _ in range(4)]
        half[1].write(HEAD)
        assert await ask(*second_half)
        second_half[1].write(HEAD)
        for _ in range(10):  # five seconds, in which each of its requests is over long before the next one
            assert await ask(*busy)
            await asyncio.sleep(0.5)
        ends = [await asyncio.wait_for(reader.read(), 1) for reader, _ in (silent, half, second_half)]
        running.should_exit = True
        for _, writer in (silent, half, second_half, busy):
            writer.close()
        await serving
        return ends

    assert asyncio.run(clients()) == [b"", b"", b""]
