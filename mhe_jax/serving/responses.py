"""Answers as JSON: of values that are checked already, and of refusals in one line."""

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from mhe_jax.serving.refused import Refused
from mhe_jax.serving.schemas import Error, SparseRow
from mhe_jax.train.reporting import stored

_LINE = 500  # characters of an error
_WITHIN = tuple(SparseRow.model_fields)
# Of any route that asks a run.
_STATUSES = (401, 403, 404, 408, 413, 421, 422, 429, 504)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON of Python's own types."""
    content = stored.as_text(value).encode()
    return Response(content, status, headers, media_type="application/json")


def refusal(error: Refused) -> Response:
    """`{"error": "..."}` with the status of the refusal."""
    return answer({"error": error.reason[:_LINE]}, error.status, error.headers)


def refusals(*more: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of routes, with statuses that only some have, for the OpenAPI document."""
    return {status: {"model": Error} for status in sorted((*_STATUSES, *more))}


def first_mistake(error: RequestValidationError) -> Refused:
    """422 with the first field that is wrong; what was sent is not sent back."""
    found: Sequence[Any] = error.errors() or [{"loc": (), "msg": "it is not valid"}]
    if found[0].get("type") == "json_invalid":
        return Refused(422, "the body is not JSON")
    # Of a union each member has its own complaint: those about the kind that was sent lie deepest.
    worst = max(found, key=lambda one: len(one["loc"]))
    # Between the field and the place in it, pydantic names the members of the union.
    path = [part for part in worst["loc"] if part not in ("body", "query")]
    place = ".".join(
        str(part) for part in path[:1] + [part for part in path[1:] if part in _WITHIN or type(part) is int]
    )
    return Refused(422, f"{place}: {worst['msg']}" if place else worst["msg"])
