"""Routes for whoever watches a server: /healthz, /readyz, /metrics."""

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

router = APIRouter()


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> Response:
    """200 as long as the process answers."""
    return PlainTextResponse("ok\n")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready"}})
async def readyz(request: Request) -> Response:
    """200 when requests may be sent: the runs are loaded, and the server is not about to end."""
    ready = request.app.state.ready()
    return PlainTextResponse("ok\n" if ready else "not ready\n", 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Requests, latencies, batches and queues, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
