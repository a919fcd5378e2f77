"""The routes of /v1 against what the same runs answer in Python."""

import asyncio
import base64
import time
from types import SimpleNamespace

import numpy as np
import openapi_spec_validator
import pytest
import scipy.sparse
from starlette.testclient import TestClient

import mhe_jax
from mhe_jax.export.push import push
from mhe_jax.inference.verify import best_threshold
from mhe_jax.serving.app import application
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.served import Served, _ranked
from mhe_jax.train.experiment import usable_config
from tests.serving.conftest import OPTIONS, encoded, png

TEXTS = ["3 4 5", "96 12", "", "7 " * 30]


def ask(client, route, **body):
    return client.post(f"/v1/{route}", json=body)


def error_of(response, status=422):
    assert response.status_code == status, response.text
    return response.json()["error"]


def assert_like(rows, expected, digits=None):
    assert [[one["label"] for one in row] for row in rows] == [[one.label for one in row] for row in expected]
    assert [[one["id"] for one in row] for row in rows] == [[one.id for one in row] for row in expected]
    scores = [one["score"] for row in rows for one in row]
    np.testing.assert_allclose(scores, [one.score for row in expected for one in row], rtol=2e-4)


@pytest.fixture(scope="module")
def runs(workdirs):
    return {name: mhe_jax.load(workdir) for name, workdir in workdirs.items()}


def test_texts(client, runs):
    response = ask(client, "predict", model="texts", inputs=TEXTS, top_k=3)
    assert_like(response.json(), runs["texts"].predict(TEXTS, top_k=3))


def test_one_text_has_one_answer(client, runs):
    response = ask(client, "predict", model="texts", inputs=TEXTS[0])
    assert_like([response.json()], runs["texts"].predict(TEXTS[:1], top_k=5))


def test_pictures_as_base64_as_addresses_and_as_files(client, runs, tmp_path):
    files = [png(seed=seed) for seed in range(3)]
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    expected = runs["pictures"].predict(paths, top_k=2)
    plain = list(map(encoded, files))
    assert_like(ask(client, "predict", inputs=plain, top_k=2).json(), expected)
    assert_like(
        ask(client, "predict", inputs=[f"data:image/png;base64,{one}" for one in plain], top_k=2).json(), expected
    )
    sent = client.post("/v1/predict/files", files=[("files", file) for file in files], data={"top_k": 2})
    assert_like(sent.json(), expected)


def test_features(client, runs):
    rows = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    found = ask(client, "predict", model="features", inputs=rows.tolist(), top_k=2).json()
    assert_like(found, runs["features"].predict(rows, top_k=2))


def test_sparse_features_in_any_order(client, runs):
    matrix = scipy.sparse.csr_matrix(([0.5, 2.0], [1, 4], [0, 2]), (1, runs["sparse"].input_shape[0]), dtype=np.float32)
    row = {"indices": [4, 1], "values": [2.0, 0.5]}
    expected = runs["sparse"].predict(matrix, top_k=2)
    assert_like(ask(client, "predict", model="sparse", inputs=[row], top_k=2).json(), expected)
    assert_like([ask(client, "predict", model="sparse", inputs=row, top_k=2).json()], expected)


def test_a_threshold_leaves_out_and_digits_are_those_of_the_codes(client, runs):
    whole = ask(client, "predict", inputs=[encoded(png())], top_k=7, digits=True).json()[0]
    space = runs["pictures"].label_space
    assert [one["digits"] for one in whole] == space.encode([one["id"] for one in whole]).tolist()
    limit = whole[2]["score"]
    kept = ask(client, "predict", inputs=[encoded(png())], top_k=7, threshold=limit - 1e-6).json()[0]
    assert [one["id"] for one in kept] == [one["id"] for one in whole[:3]]
    assert "digits" not in kept[0]


def test_a_run_without_a_decision_has_none_to_answer_by(client):
    refused = ask(client, "predict", inputs=[encoded(png())], decide=True)
    assert refused.status_code == 422
    assert "decision.safetensors does not exist: `mhe decide" in refused.json()["error"]


def test_embeddings(client, runs, tmp_path):
    found = ask(client, "embed", model="texts", inputs=TEXTS).json()
    np.testing.assert_allclose(found, runs["texts"].embed(TEXTS), rtol=1e-4, atol=1e-6)
    face = png((8, 8, 3))
    (tmp_path / "a.png").write_bytes(face)
    one = ask(client, "embed", model="faces", inputs=encoded(face)).json()
    np.testing.assert_allclose(one, runs["faces"].embed(tmp_path / "a.png")[0], rtol=1e-4, atol=1e-6)


def test_two_faces(client, workdirs):
    first, second = encoded(png((8, 8, 3), 1)), encoded(png((8, 8, 3), 2))
    same = ask(client, "verify", model="faces", inputs=[first, first]).json()
    assert same["same"]
    assert same["similarity"] == pytest.approx(1, abs=1e-5)
    assert same["threshold"] == best_threshold(workdirs["faces"])
    other = ask(client, "verify", model="faces", inputs=[first, second], threshold=1.0).json()
    assert not other["same"]
    assert -1 <= other["similarity"] < 1


def test_people_of_the_gallery(client, gallery):
    pictures = [encoded((gallery / "person 1" / "3.png").read_bytes()), encoded(png((8, 8, 3), 4))]
    found = ask(client, "search", model="faces", inputs=pictures, top_k=2).json()
    assert [row[0]["label"] for row in found] == ["person 1", "person 2"]
    assert [len(row) for row in found] == [2, 2]
    assert found[0][0]["score"] == pytest.approx(1, abs=1e-5)
    assert [len(row) for row in ask(client, "search", model="faces", inputs=pictures, threshold=0.9999).json()] == [
        1,
        1,
    ]


def test_what_the_runs_are(client, runs):
    listed = {one["name"]: one for one in client.get("/v1/models").json()}
    assert list(listed) == list(runs)
    assert listed["pictures"]["input_shape"] == [8, 8, 1]
    assert listed["pictures"]["head_sizes"] == [4, 5]
    assert listed["texts"]["kind"] == "texts"
    assert listed["texts"]["max_top_k"] == 7
    assert listed["faces"]["verifies"]
    assert not listed["faces"]["predicts"]
    assert listed["faces"]["gallery"] == 3
    assert listed["pictures"]["step"] == 2
    assert listed["pictures"]["stale"] is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": ["no base64!"]}, "inputs[0] is not base64"),
        ({"inputs": [encoded(b"nothing")]}, "inputs[0]: cannot be decoded as an image: 7 bytes in no known format"),
        ({"inputs": [encoded(png()[:-30])]}, "inputs[0]: cannot be decoded as an image"),
        ({"inputs": [encoded(png()), 3]}, "inputs.1: Input should be"),
        ({"inputs": [encoded(png((1100, 60, 1)))]}, "inputs[0] has 66,000 pixels, more than 60,000"),
        ({"inputs": [[1.0, 2.0]]}, "inputs[0] must be a string, the base64 of an encoded picture; it is a list of 2"),
        ({"inputs": ["a"], "top_k": 8}, "top_k is 8; pictures has answers of 1 to 7 classes"),
        ({"inputs": ["a"], "top_k": 0}, "top_k: Input should be greater than or equal to 1"),
        ({"inputs": ["a"], "topk": 2}, "topk: Extra inputs are not permitted"),
        ({"inputs": ["a"], "threshold": 2}, "threshold: Input should be less than or equal to 1"),
        ({"inputs": ["a"] * 41}, "there are 41 inputs; a request may have 40"),
        ({}, "inputs: Field required"),
        ({"model": "features", "inputs": [[1.0]]}, "inputs[0] must be a list of 6 numbers; it is a list of 1"),
        ({"model": "features", "inputs": [[1e39] * 6]}, "inputs[0] holds a number that float32 has not"),
        ({"model": "texts", "inputs": [[1.0]]}, "inputs[0] must be a string; it is a list of 1"),
        ({"model": "sparse", "inputs": [{"indices": [1], "values": []}]}, "inputs[0] has 1 indices and 0 values"),
        ({"model": "sparse", "inputs": [{"indices": [1, 1], "values": [1, 1]}]}, "inputs[0] has an index twice"),
        (
            {"model": "sparse", "inputs": [{"indices": [-1], "values": [1]}]},
            "inputs.0.indices.0: Input should be greater than or equal to 0",
        ),
        (
            {"model": "faces", "inputs": [encoded(png((8, 8, 3)))]},
            "faces is a run on faces, whose classes only trained",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(client, body, says):
    assert says in error_of(client.post("/v1/predict", json=body))


def test_other_mistakes(client):
    assert error_of(ask(client, "predict", model="none", inputs=["a"]), 404).startswith("there is no model 'none'")
    assert error_of(ask(client, "verify", inputs=["a", "b"])) == "pictures is no run on faces"
    assert error_of(ask(client, "verify", model="faces", inputs=["a"])).startswith(
        "inputs: List should have at least 2"
    )
    sent = client.post("/v1/predict/files", files=[("files", b"x")], data={"model": "texts"})
    assert error_of(sent) == "texts takes texts, not files"
    for content in (b"{", b"[" * 100_000):
        sent = client.post("/v1/predict", content=content, headers={"Content-Type": "application/json"})
        assert sent.json()["error"].startswith(("the body is not JSON", "There was an error parsing the body"))
    assert error_of(client.post("/v1/predict", content=b"{"), 422)
    assert error_of(client.get("/v1/nothing"), 404)
    assert error_of(client.get("/v1/predict"), 405)


@pytest.mark.parametrize("inputs", [[1] * 30_000, [["a"] * 30_000], [{"indices": ["a"] * 30_000, "values": []}]])
def test_many_mistakes_take_no_longer_than_one(client, inputs):
    started = time.monotonic()
    assert error_of(ask(client, "predict", inputs=inputs)).startswith("inputs.0")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("model", ["pictures", "texts", "features", "sparse"])
def test_neighbours_of_a_class(client, workdirs, model):
    expected = mhe_jax.load(workdirs[model]).neighbours([3, 0], 4)
    for class_id, near in zip((3, 0), expected, strict=True):
        found = client.get("/v1/neighbours", params={"id": class_id, "model": model, "top_k": 4}).json()
        assert [one["id"] for one in found] == [one.id for one in near]
        assert all(0 < one["score"] <= 1 and one["id"] != class_id for one in found[:1])


def test_neighbours_that_there_are_not(client):
    def refused(**query):
        return error_of(client.get("/v1/neighbours", params=query))

    assert "id is 999; pictures has 19 classes" in refused(id=999)
    assert "top_k is 8; pictures has answers of 1 to 7 neighbours" in refused(id=0, top_k=8)
    assert "a run on faces" in refused(id=0, model="faces")
    assert refused(id=-1) == "id: Input should be greater than or equal to 0"
    assert refused() == "id: Field required"


def test_neighbours_are_no_more_than_there_are(client, monkeypatch):
    monkeypatch.setattr("mhe_jax.serving.served._neighbours", lambda run, options: 3)
    assert len(client.get("/v1/neighbours", params={"id": 0}).json()) == 3
    monkeypatch.setattr("mhe_jax.serving.served._neighbours", lambda run, options: 0)
    assert error_of(client.get("/v1/neighbours", params={"id": 0})) == "pictures has one class, and no neighbours"


def test_a_published_run_is_loaded_anew_when_it_is_replaced(workdirs, tmp_path):
    config, folder = usable_config(workdirs["features"]), tmp_path / "published"
    push(config, workdirs["features"], str(folder))
    served = Served("features", folder, OPTIONS, Metrics())
    served.open()

    async def changes():
        assert not await served.reload()
        push(config, workdirs["features"], str(folder))
        assert await served.reload()
        (folder / "model.safetensors").write_bytes(b"half")
        assert not await served.reload()
        assert "model.safetensors" in served.stale
        await served.close()

    asyncio.run(changes())


def test_the_document_says_that_a_token_is_asked_for():
    gate = application([], Options(token="hunter2"), Metrics())
    asking = TestClient(gate, headers={"Authorization": "Bearer hunter2"})
    document = asking.get("/openapi.json").json()
    openapi_spec_validator.validate(document)
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []


def test_no_path_of_a_request_is_read(client, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert "is not base64" in error_of(ask(client, "predict", inputs=[str(tmp_path / "a.png")]))
    # A name that happens to be base64 is the bytes that it stands for.
    assert "cannot be decoded" in error_of(ask(client, "predict", inputs=[base64.b64encode(b"main.py").decode()]))
    for path in ("/page/../app.py", "/page/__init__.py", "/page/%2e%2e/app.py", "/page/index.html"):
        assert client.get(path).status_code == 404


def test_the_document_names_the_routes_and_the_metrics_count(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    openapi_spec_validator.validate(document)
    routes = {"/v1/predict", "/v1/neighbours", "/v1/embed", "/v1/verify", "/v1/search", "/v1/models"}
    assert routes <= set(document["paths"])
    assert "security" not in document
    ask(client, "predict", inputs=[encoded(png())])
    client.get("/some/place")
    text = client.get("/metrics").text
    assert 'mhe_requests_total{route="/v1/predict",status="200"}' in text
    assert 'mhe_requests_total{route="other",status="404"}' in text
    assert 'mhe_batch_inputs_count{model="pictures",program="predict"}' in text
    assert 'mhe_pending_inputs{model="texts"} 0.0' in text
    assert client.get("/healthz").text == client.get("/readyz").text == "ok\n"


def test_a_decision_may_need_more_classes_than_an_answer_has():
    run = SimpleNamespace(num_live=200, num_decided=100)
    assert _ranked(run, OPTIONS) == 100
    run.num_decided = 0
    assert _ranked(run, OPTIONS) == OPTIONS.max_top_k
