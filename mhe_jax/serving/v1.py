"""Routes of our own: /v1/predict, /v1/neighbours, /v1/embed, /v1/verify, /v1/search, /v1/models."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from starlette.responses import Response

from mhe_jax.inference.run import Prediction
from mhe_jax.serving import schemas
from mhe_jax.serving.refused import Refused
from mhe_jax.serving.responses import answer, refusals
from mhe_jax.serving.served import Served

router = APIRouter(prefix="/v1", responses=refusals())


def listed(inputs: Any) -> tuple[list, bool]:
    """Inputs as a list, and whether they were one."""
    return (inputs, True) if isinstance(inputs, list) else ([inputs], False)


def find(request: Request, name: str | None) -> Served:
    """The run of a name, the first without one; raises Refused where there is none."""
    models: dict[str, Served] = request.app.state.models
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise Refused(404, f"there is no model {name!r}; there are: {', '.join(models)}")
    return models[name]


@router.get("/models", response_model=list[schemas.ModelInfo])
async def models(request: Request) -> Any:
    """The runs that answer, and what each takes."""
    return [served.info() for served in request.app.state.models.values()]


@router.post("/predict", responses={200: {"model": list[list[schemas.Prediction]] | list[schemas.Prediction]}})
async def predict(request: Request, body: schemas.Predict) -> Response:
    """The best classes of each input, best first, in the shape of a Hugging Face pipeline.

    One input instead of a list has one answer instead of a list.
    """
    served = find(request, body.model)
    inputs, several = listed(body.inputs)
    found = await served.predict(inputs, body.top_k, body.threshold, body.decide)
    rows = [_as_json(served, row, body.digits) for row in found]
    return answer(rows if several else rows[0])


@router.post("/predict/files", responses={200: {"model": list[list[schemas.Prediction]]}})
async def predict_files(
    request: Request,
    files: list[UploadFile],
    model: Annotated[str | None, Form()] = None,
    top_k: Annotated[int | None, Form(ge=1)] = None,
    threshold: Annotated[float, Form(ge=0, le=1)] = 0.0,
    decide: Annotated[bool, Form()] = False,
    digits: Annotated[bool, Form()] = False,
) -> Response:
    """The best classes of pictures that are sent as files, `curl -F files=@a.png`."""
    served = find(request, model)
    if served.run.kind != "pictures":
        raise Refused(422, f"{served.name} takes {served.run.kind}, not files")
    found = await served.predict([await file.read() for file in files], top_k, threshold, decide)
    return answer([_as_json(served, row, digits) for row in found])


@router.get("/neighbours", response_model=list[schemas.Neighbour])
async def neighbours(
    request: Request,
    id: Annotated[int, Query(ge=0, description="number of a class")],
    model: str | None = None,
    top_k: Annotated[int | None, Query(ge=1, description="classes at most; 5 or what there are without")] = None,
) -> Any:
    """The classes that the weights of a class are most like, best first."""
    found = await find(request, model).neighbours(id, top_k)
    return [schemas.Neighbour(label=one.label, score=one.score, id=one.id) for one in found]


@router.post("/embed", responses={200: {"model": list[list[float]] | list[float]}})
async def embed(request: Request, body: schemas.AskOne) -> Response:
    """The features of each input as the head sees them; of length 1 where the run is one on faces."""
    served = find(request, body.model)
    inputs, several = listed(body.inputs)
    rows = (await served.embed(inputs)).tolist()
    return answer(rows if several else rows[0])


@router.post("/verify", response_model=schemas.Verified)
async def verify(request: Request, body: schemas.Verify) -> Any:
    """Do two pictures show one person? The cosine of their embeddings against a threshold."""
    served = find(request, body.model)
    return await served.verify(body.inputs, body.threshold)


@router.post("/search", responses={200: {"model": list[list[schemas.Found]] | list[schemas.Found]}})
async def search(request: Request, body: schemas.Search) -> Response:
    """The people of the gallery that each picture is most similar to."""
    served = find(request, body.model)
    inputs, several = listed(body.inputs)
    found = await served.search(inputs, body.top_k, body.threshold)
    rows = [[{"label": name, "score": score} for name, score in row] for row in found]
    return answer(rows if several else rows[0])


def _as_json(served: Served, row: list[Prediction], digits: bool) -> list[dict]:
    found: list[dict] = [one._asdict() for one in row]
    if digits and row:
        for one, code in zip(found, served.digits([one.id for one in row]), strict=True):
            one["digits"] = code
    return found
