"""Bodies of requests and answers; the OpenAPI document is made from them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class _Body(BaseModel):
    # A misspelt field is an error and not a default.
    model_config = ConfigDict(extra="forbid")


class SparseRow(_Body):
    """The features of an example that are not zero."""

    indices: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        fail_fast=True, description="numbers of the features, each once"
    )
    values: list[FiniteFloat] = Field(fail_fast=True, description="as many values")


# The first mistake is enough: of a million there would be gigabytes to say.
_FIRST = Field(fail_fast=True)
# What an input is depends on the run; `kind` in /v1/models tells.
Input = str | Annotated[list[FiniteFloat], _FIRST] | SparseRow
Inputs = Annotated[
    Annotated[list[Input], _FIRST] | str | SparseRow,
    Field(
        description="texts: strings; pictures: base64 of encoded files; features: lists of numbers; sparse features: "
        "objects with indices and values. One input instead of a list, but for features, has one answer.",
        examples=[["the first text", "the second"]],
    ),
]
Model = Annotated[str | None, Field(description="name of a run in /v1/models; the first without one")]


class AskOne(_Body):
    """Inputs for a run."""

    inputs: Inputs
    model: Model = None


class Predict(AskOne):
    """Inputs to classify."""

    top_k: int | None = Field(None, ge=1, description="classes of each input, best first; 5 or what there are without")
    threshold: float = Field(0.0, ge=0.0, le=1.0, description="classes of a lower score are left out")
    decide: bool = Field(False, description="answers what `mhe decide` chose for the run, with calibrated scores")
    digits: bool = Field(False, description="adds the digits of each class's code, the path of a cascade")


class Verify(_Body):
    """Two pictures to compare."""

    inputs: Annotated[list[str], Field(min_length=2, max_length=2, description="base64 of two encoded pictures")]
    model: Model = None
    threshold: float | None = Field(None, ge=-1.0, le=1.0, description="cosine; the run's own without one")


class Search(AskOne):
    """Pictures to look up in the gallery."""

    top_k: int | None = Field(None, ge=1, description="people of each picture, most similar first; 5 without")
    threshold: float = Field(-1.0, ge=-1.0, le=1.0, description="people of a lower cosine are left out")


class Prediction(BaseModel):
    """A class and its probability."""

    label: str
    score: float
    id: int
    digits: list[int] | None = None


class Neighbour(BaseModel):
    """A class, and the cosine between its weights and those of the class that was asked about."""

    label: str
    score: float
    id: int


class Verified(BaseModel):
    """Whether two pictures show one person."""

    similarity: float
    threshold: float
    same: bool


class Found(BaseModel):
    """A person of the gallery and the cosine of the most similar picture."""

    label: str
    score: float


class ModelInfo(BaseModel):
    """What a run is and takes."""

    name: str
    kind: str
    input_shape: list[int]
    head: str
    head_sizes: list[int]
    num_classes: int
    features_dim: int
    max_top_k: int
    predicts: bool
    verifies: bool
    threshold: float | None
    gallery: int
    step: int | None
    metrics: dict[str, Any]
    loaded: str
    stale: str | None


class Error(BaseModel):
    """Why there is no answer."""

    error: str
