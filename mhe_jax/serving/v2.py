"""The Open Inference Protocol, version 2: for clients of Triton, KServe and others, see `tensors` for its source.

A run with a million classes cannot answer with all scores: the outputs are the best `top_k` of each input, a parameter
of the request.
"""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from mhe_jax.inference.run import Prediction
from mhe_jax.serving import tensors
from mhe_jax.serving.refused import Refused
from mhe_jax.serving.responses import answer, refusals
from mhe_jax.serving.schemas import SparseRow
from mhe_jax.serving.served import Served
from mhe_jax.serving.v1 import find
from mhe_jax.version import __version__

router = APIRouter(prefix="/v2", responses=refusals(400))
_CLASSES = (("labels", "BYTES"), ("ids", "INT64"), ("scores", "FP32"))
_PARAMETERS = {"top_k", "binary_data_output"}
_HEADER = "Inference-Header-Content-Length"
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BODY = {
    "required": True,
    "content": {
        **_BINARY,
        "application/json": {
            "schema": {"type": "object", "required": ["inputs"]},
            "example": {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a text"]}]},
        },
    },
}


@router.get("")
async def server() -> Response:
    """What this server is."""
    return answer({"name": "mhe_jax", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get("/health/live")
async def live() -> Response:
    """200 as long as the process answers."""
    return answer({"live": True})


@router.get("/health/ready", responses={503: {"description": "Not ready"}})
async def ready(request: Request) -> Response:
    """200 when requests may be sent."""
    is_ready = request.app.state.ready()
    return answer({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
@router.get("/models/{name}/ready")
async def model_ready(request: Request, name: str) -> Response:
    """200 when the run is loaded."""
    _find(request, name)
    return answer({"name": name, "ready": True})


@router.get("/models/{name}/versions/{version}", include_in_schema=False)
@router.get("/models/{name}")
async def metadata(request: Request, name: str) -> Response:
    """The inputs and outputs of a run; -1 is the number of inputs or of what varies with them."""
    served = _find(request, name)
    return answer(
        {
            "name": name,
            "versions": [_version(served)],
            "platform": "mhe_jax",
            "inputs": _inputs(served),
            "outputs": [
                {"name": output, "datatype": datatype, "shape": shape} for output, datatype, shape in _outputs(served)
            ],
        }
    )


@router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
@router.post(
    "/models/{name}/infer",
    openapi_extra={"requestBody": _BODY},
    responses={200: {"content": _BINARY}, **refusals(400, 415)},
)
async def infer(request: Request, name: str) -> Response:
    """The best classes of each input, or the embeddings of a run on faces.

    Pictures are the content of their files; in JSON, where bytes have no place, its base64.
    """
    served = _find(request, name)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "compressed bodies are not read")
    asked, arrays = tensors.parse(await request.body(), request.headers.get(_HEADER))
    expected = [one["name"] for one in _inputs(served)]
    if sorted(arrays) != sorted(expected):
        raise Refused(400, f"the inputs of {name} are {', '.join(expected)}; there are {', '.join(arrays)}")
    parameters = asked.get("parameters") or {}
    known = _PARAMETERS - {"top_k"} if served.run.verifies else _PARAMETERS
    if unknown := sorted(parameters.keys() - known):
        raise Refused(400, f"there is no parameter {unknown[0]!r} of {name}; there are: {', '.join(sorted(known))}")
    names, binary = tensors.wanted(asked, [output for output, _, _ in _outputs(served)])
    # Before there is an object of each: rows of width 0 cost a client nothing.
    served.require_few(max(len(array) if array.ndim else 0 for array in arrays.values()))
    inputs = _rows(served, arrays)
    if served.run.verifies:
        found = {"embeddings": await served.embed(inputs)}
    else:
        top_k = parameters.get("top_k")
        if top_k is not None and type(top_k) is not int:
            raise Refused(400, "the parameter top_k must be a whole number")
        found = _columns(await served.predict(inputs, top_k))
    told = {"model_name": name, "model_version": _version(served), **({"id": asked["id"]} if asked.get("id") else {})}
    body, head = tensors.build(told, {output: found[output] for output in names}, binary)
    if head is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={_HEADER: str(head)}, media_type="application/octet-stream")


def _find(request: Request, name: str) -> Served:
    """The run of a name; raises Refused, 404, where there is none, or where its weights are of another step than the
    version in the path."""
    served = find(request, name)
    version = request.path_params.get("version", _version(served))
    if version != _version(served):
        raise Refused(404, f"{name} has the version {_version(served)}, and not {version!r}")
    return served


def _inputs(served: Served) -> list[dict[str, Any]]:
    width = served.run.input_shape[-1] if served.run.input_shape else 0
    listed = {
        "texts": [("text", "BYTES", [-1])],
        "pictures": [("image", "BYTES", [-1])],
        "features": [("features", "FP32", [-1, width])],
        # Rows are filled up with the index -1.
        "sparse": [("indices", "INT64", [-1, -1]), ("values", "FP32", [-1, -1])],
    }[served.run.kind]
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in listed]


def _outputs(served: Served) -> list[tuple[str, str, list[int]]]:
    if served.run.verifies:
        return [("embeddings", "FP32", [-1, served.run.features_dim])]
    return [(name, datatype, [-1, -1]) for name, datatype in _CLASSES]


def _rows(served: Served, arrays: dict[str, np.ndarray]) -> list:
    """One input each, as `Served.predict` takes them."""
    kind = served.run.kind
    if kind == "sparse":
        indices, values = arrays["indices"], arrays["values"]
        if indices.ndim != 2 or values.shape != indices.shape or indices.dtype.kind != "i" or values.dtype.kind != "f":
            raise Refused(400, "indices and values must be whole and other numbers of one shape [N, W]")
        pairs = zip(indices, values, strict=True)
        return [SparseRow.model_construct(indices=i[i >= 0].tolist(), values=v[i >= 0].tolist()) for i, v in pairs]
    array = next(iter(arrays.values()))
    if kind == "features":
        if array.ndim != 2 or array.dtype.kind != "f":
            raise Refused(400, "features must be floating-point numbers of the shape [N, D]")
        return list(array)
    if array.ndim == 2 and array.shape[1] == 1:  # as servers with a fixed batch dimension want it
        array = array[:, 0]
    if array.ndim != 1 or array.dtype != object:
        raise Refused(400, "the input must be BYTES of the shape [N]")
    if kind == "pictures":
        return array.tolist()
    try:
        return [text.decode() if isinstance(text, bytes) else text for text in array]
    except UnicodeDecodeError:
        raise Refused(400, "a text is not UTF-8") from None


def _columns(found: list[list[Prediction]]) -> dict[str, np.ndarray]:
    """Rows of one width: where the head found fewer classes, id -1, score 0 and no label."""
    width = max(map(len, found), default=0)
    nothing = Prediction("", 0.0, -1)
    filled = [row + [nothing] * (width - len(row)) for row in found]
    shape = (len(filled), width)
    return {
        "labels": np.array([one.label for row in filled for one in row] + [None], object)[:-1].reshape(shape),
        "ids": np.array([one.id for row in filled for one in row], np.int64).reshape(shape),
        "scores": np.array([one.score for row in filled for one in row], np.float32).reshape(shape),
    }


def _version(served: Served) -> str:
    return str(served.run.step or 0)
