"""The page at `/`: static files, which ask the routes of /v1 like anybody else."""

import importlib.resources
import pathlib

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

FOLDER = pathlib.Path(str(importlib.resources.files(__name__)))
# Of the page's own files and the pictures that a user drops, nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Files(StaticFiles):
    """The files that a browser needs, and not the Python beside them."""

    def lookup_path(self, path: str):
        return super().lookup_path(path) if path.endswith((".css", ".js", ".svg")) else ("", None)


def add_to(app: FastAPI) -> None:
    """Adds `/` and the files under `/page` to an application."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": _POLICY})

    @router.get("/favicon.svg", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(FOLDER / "icon.svg")

    app.include_router(router)
    app.mount("/page", _Files(directory=FOLDER), name="page")
