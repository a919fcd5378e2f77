"""The Open Inference Protocol: by a client of Triton, and by hand where no client would go."""

import json

import numpy as np
import pytest

import mhe_jax
from tests.serving.conftest import png

http = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def triton(address):
    with http.InferenceServerClient(address.removeprefix("http://")) as client:
        yield client


def image(*contents):
    tensor = http.InferInput("image", [len(contents)], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, object))
    return tensor


def test_what_a_client_learns(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("texts")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = triton.get_model_metadata("texts")
    assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [one["name"] for one in found["outputs"]] == ["labels", "ids", "scores"]
    assert found["versions"] == ["2"]


@pytest.mark.parametrize("binary", [True, False])
def test_pictures(triton, workdirs, binary):
    run = mhe_jax.load(workdirs["pictures"])
    files = [png(seed=seed) for seed in range(2)]
    expected = run.predict(np.stack([run.decode_image(one, "it") for one in files]), top_k=3)
    wanted = (
        None if binary else [http.InferRequestedOutput(name, binary_data=False) for name in ("scores", "ids", "labels")]
    )
    found = triton.infer("pictures", [image(*files)], outputs=wanted, parameters={"top_k": 3}, request_id="mine")
    assert found.get_response()["id"] == "mine"
    assert found.as_numpy("ids").tolist() == [[one.id for one in row] for row in expected]
    np.testing.assert_allclose(found.as_numpy("scores"), [[one.score for one in row] for row in expected], rtol=2e-4)
    as_text = lambda label: label.decode() if isinstance(label, bytes) else label
    labels = [[as_text(label) for label in row] for row in found.as_numpy("labels")]
    assert labels == [[one.label for one in row] for row in expected]


def test_texts_of_two_dimensions(triton, workdirs):
    tensor = http.InferInput("text", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["3 4"], ["5"]], object), binary_data=False)
    found = triton.infer("texts", [tensor], outputs=[http.InferRequestedOutput("ids")])
    expected = mhe_jax.load(workdirs["texts"]).predict(["3 4", "5"])
    assert found.as_numpy("ids")[:, :2].tolist() == [[one.id for one in row[:2]] for row in expected]
    assert found.as_numpy("scores") is None


def infer(client, model, inputs, **more):
    return client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **more})


def test_features_faces_and_sparse_rows(client, workdirs):
    rows = np.random.default_rng(0).normal(size=(2, 6)).round(3)
    flat = {"name": "features", "datatype": "FP32", "shape": [2, 6], "data": rows.reshape(-1).tolist()}
    found = infer(client, "features", [flat]).json()
    assert found == infer(client, "features", [{**flat, "data": rows.tolist()}]).json()
    assert [one["shape"] for one in found["outputs"]] == [[2, 5]] * 3
    indices = {"name": "indices", "datatype": "INT64", "shape": [1, 3], "data": [4, 1, -1]}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 0.5, 0.0]}
    found = infer(client, "sparse", [indices, values], parameters={"top_k": 2}).json()["outputs"]
    plain = client.post(
        "/v1/predict", json={"model": "sparse", "inputs": [{"indices": [1, 4], "values": [0.5, 2.0]}], "top_k": 2}
    )
    assert found[1]["data"] == [one["id"] for one in plain.json()[0]]
    metadata = client.get("/v2/models/faces").json()
    assert metadata["outputs"] == [{"name": "embeddings", "datatype": "FP32", "shape": [-1, 8]}]


def test_versions_are_steps(client):
    assert client.get("/v2/models/texts/versions/2").json()["versions"] == ["2"]
    assert client.get("/v2/models/texts/versions/2/ready").status_code == 200
    assert client.get("/v2/models/texts/versions/3/ready").status_code == 404
    body = {"inputs": [GOOD], "id": None, "parameters": None}
    assert client.post("/v2/models/texts/versions/2/infer", json=body).json()["model_version"] == "2"


GOOD = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["3 4"]}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([], "`inputs` must be a list"),
        ("text", "`inputs` must be a list"),
        ([{**GOOD, "name": "image"}], "the inputs of texts are text; there are image"),
        ([{**GOOD, "shape": [2]}], "inputs[0] has 1 elements; its shape [2] has 2"),
        ([{**GOOD, "shape": [-1]}], "inputs[0]: shape must be a list of sizes"),
        ([{**GOOD, "shape": None}], "inputs[0]: shape must be a list of sizes"),
        ([{**GOOD, "data": "3 4"}], "inputs[0]: data must be a list"),
        ([{**GOOD, "data": [3]}], "inputs[0]: data must be strings"),
        ([{**GOOD, "datatype": "FP32"}], "inputs[0]: data must be numbers of FP32"),
        ([{**GOOD, "datatype": "FP32", "data": [1]}], "the input must be BYTES of the shape [N]"),
        ([{**GOOD, "datatype": "TEXT"}], "inputs[0]: datatype must be BYTES or one of"),
        ([{**GOOD, "datatype": ["FP32"]}], "inputs[0]: datatype must be BYTES or one of"),
        ([{**GOOD, "data": [["3"], 4]}], "inputs[0]: data is nested unevenly"),
        ([{**GOOD, "parameters": {"binary_data_size": 9}}], "inputs[0]: there are no 9 bytes"),
        ([{**GOOD, "parameters": 3}], "inputs[0]: parameters must be an object"),
        (["text"], "inputs[0] must be a tensor with a name"),
        ([GOOD, GOOD], "inputs[1]: there is a tensor 'text' before it"),
        ([{**GOOD, "shape": [1] * 65}], "inputs[0]: shape has 65 sizes; there may be 8"),
        ([{**GOOD, "shape": [2**31 - 1] * 500}], "inputs[0]: shape has 500 sizes; there may be 8"),
        ([{**GOOD, "shape": [0, *[2**31 - 1] * 4], "data": []}], "is too large"),
        ([{**GOOD, "datatype": "INT64", "data": [1.7]}], "inputs[0]: data must be numbers of INT64"),
        ([{**GOOD, "datatype": "INT64", "data": ["3"]}], "inputs[0]: data must be numbers of INT64"),
        ([{**GOOD, "datatype": "INT64", "data": [True]}], "inputs[0]: data must be numbers of INT64"),
        ([{**GOOD, "datatype": "UINT8", "data": [256]}], "inputs[0]: data must be numbers of UINT8"),
        ([{**GOOD, "datatype": "BOOL", "data": [2]}], "inputs[0]: data must be numbers of BOOL"),
    ],
)
def test_tensors_that_are_wrong(client, inputs, says):
    response = infer(client, "texts", inputs)
    assert response.status_code == 400
    assert says in response.json()["error"]


@pytest.mark.parametrize("model", ["features", "sparse"])
def test_rows_without_width_are_counted_before_they_are_made(client, model, monkeypatch):
    monkeypatch.setattr("mhe_jax.serving.v2._rows", lambda served, arrays: pytest.fail("rows were made"))
    rows = {"shape": [2**31 - 1, 0], "data": []}
    kinds = {"features": {"features": "FP32"}, "sparse": {"indices": "INT64", "values": "FP32"}}[model]
    response = infer(client, model, [{"name": name, "datatype": kind, **rows} for name, kind in kinds.items()])
    assert response.status_code == 422
    assert response.json()["error"] == "there are 2147483647 inputs; a request may have 40"


def test_the_document_names_refusals_and_binary_bodies(client):
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document["paths"])
    infer_it = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert {"400", "401", "404", "413", "415", "422", "429", "504"} <= infer_it["responses"].keys()
    assert [one["name"] for one in infer_it["parameters"]] == ["name"]
    for body in (infer_it["requestBody"], infer_it["responses"]["200"]):
        assert body["content"].keys() == {"application/json", "application/octet-stream"}
    for path in ("/readyz", "/v2/health/ready"):
        statuses = document["paths"][path]["get"]["responses"].keys()
        assert "503" in statuses
        assert "401" not in statuses


def test_requests_that_are_wrong(client):
    def says(status, response):
        assert response.status_code == status, response.text
        return response.json()["error"]

    assert "outputs[0] must be one of labels" in says(400, infer(client, "texts", [GOOD], outputs=[{"name": "logits"}]))
    assert "top_k must be a whole" in says(400, infer(client, "texts", [GOOD], parameters={"top_k": "3"}))
    assert "no parameter 'topk' of texts; there are: binary_data_output, top_k" in says(
        400, infer(client, "texts", [GOOD], parameters={"topk": 3})
    )
    assert "top_k is 99" in says(422, infer(client, "texts", [GOOD], parameters={"top_k": 99}))
    assert "`id` a string" in says(400, infer(client, "texts", [GOOD], id=3))
    assert "no model 'none'" in says(404, infer(client, "none", [GOOD]))
    post = lambda content, **headers: client.post("/v2/models/texts/infer", content=content, headers=headers)
    assert "not JSON" in says(400, post(b"{"))
    assert "compressed" in says(415, post(b"{", **{"Content-Encoding": "gzip"}))
    length = "Inference-Header-Content-Length"
    assert length in says(400, post(b"{}", **{length: "7"}))
    head = json.dumps({"inputs": [{**GOOD, "parameters": {"binary_data_size": 5}}]}).encode()
    assert "longer than the data" in says(400, post(head + b"\xff\0\0\0a", **{length: str(len(head))}))
    assert "belong to no tensor" in says(400, post(head + b"\1\0\0\0ab", **{length: str(len(head))}))
    assert "not UTF-8" in says(400, post(head + b"\1\0\0\0\xff", **{length: str(len(head))}))
    assert post(head + b"\1\0\0\0a", **{length: str(len(head))}).status_code == 200
