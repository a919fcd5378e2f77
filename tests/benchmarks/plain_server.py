"""What people write first: one route around `run.predict`, without batches, for `mhe bench-serve --url` to ask.

PYTHONPATH=. python tests/benchmarks/plain_server.py RUN PORT
mhe bench-serve --url=http://127.0.0.1:PORT
"""

import sys

import uvicorn
from fastapi import FastAPI

import mhe_jax
from mhe_jax.serving import reading
from mhe_jax.serving.schemas import Predict

run = mhe_jax.load(sys.argv[1])
app = FastAPI()


@app.get("/v1/models")
def models() -> list[dict]:
    """What `mhe bench-serve` asks first."""
    return [{"name": "run", "kind": run.kind, "input_shape": run.input_shape, "predicts": not run.verifies}]


@app.post("/v1/predict")
def predict(body: Predict) -> list:
    """In one of the threads that FastAPI has for such routes."""
    inputs = body.inputs
    if run.kind == "pictures":
        inputs = [reading.decoded(run, reading.picture_bytes(run, one, ""), "") for one in inputs]
        inputs = reading.stacked(run.kind, inputs)
    return [[one._asdict() for one in best] for best in run.predict(inputs, body.top_k)]


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
