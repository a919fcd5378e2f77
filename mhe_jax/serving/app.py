"""The application: routes, what goes wrong in them, and the runs that they ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mhe_jax.serving import health, page, v1, v2
from mhe_jax.serving.gate import OPEN, Gate
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.refused import Refused
from mhe_jax.serving.responses import first_mistake, refusal
from mhe_jax.serving.served import Served
from mhe_jax.version import __version__


def application(models: Sequence[Served], options: Options, metrics: Metrics) -> Gate:
    """The ASGI application that answers for some opened runs, the first of which is asked where none is named."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look_for_newer(models, options.reload_seconds))
        yield
        looking.cancel()
        for served in models:
            await served.close()

    app = FastAPI(
        title="mhe_jax",
        version=__version__,
        summary="Classifiers with very many classes.",
        lifespan=lifespan,
        redirect_slashes=False,
        # Both pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    for module in (v1, v2, health):
        app.include_router(module.router)
    page.add_to(app)
    _require_token(app, options)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    gate = Gate(app, options, metrics, routes=["/", *app.openapi()["paths"]])
    app.state.models = {served.name: served for served in models}
    app.state.metrics = metrics
    app.state.ready = lambda: not gate.draining
    for served in models:
        metrics.watch(served.name, served.state)
    return gate


def _require_token(app: FastAPI, options: Options) -> None:
    """Says in the OpenAPI document what the gate asks a token of, where it does."""
    document = app.openapi()
    if options.token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    for path in document["paths"].keys() & OPEN:
        document["paths"][path]["get"]["responses"].pop("401", None)
        if options.token:
            document["paths"][path]["get"]["security"] = []


async def _look_for_newer(models: Sequence[Served], seconds: float) -> None:
    while seconds:
        await asyncio.sleep(seconds)
        for served in models:
            await served.reload()


async def _refused(request: Request, error: Any) -> Response:
    return refusal(error)


async def _invalid(request: Request, error: Any) -> Response:
    return refusal(first_mistake(error))


async def _http(request: Request, error: Any) -> Response:
    return refusal(Refused(error.status_code, str(error.detail), dict(error.headers or {})))


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises it again, for the log.
    return refusal(Refused(500, "the server failed at this request; its log says how"))
