"""Small runs of each kind behind an application, and behind a port."""

import asyncio
import base64
import io
import threading

import numpy as np
import PIL.Image
import pytest
import uvicorn
from starlette.testclient import TestClient

from mhe_jax.serving.app import application
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.served import Served
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_bag_config, tiny_config, tiny_face_config, tiny_features_config, tiny_text_config
from tests.data.texts.sparse import layouts

OPTIONS = Options(max_top_k=7, max_inputs=40, max_queue=80, max_body=200_000, max_pixels=60_000, reload_seconds=0)


def png(shape=(8, 8, 1), seed=0):
    """The file of a picture of noise."""
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels[..., 0] if shape[-1] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.fixture(scope="session")
def workdirs(tmp_path_factory):
    """A run of two steps of each kind, by its name."""
    folder = tmp_path_factory.mktemp("served")
    configs = {
        "pictures": tiny_config.get_config(),
        "texts": tiny_text_config.get_config(),
        "faces": tiny_face_config.get_config(),
        "features": tiny_features_config.get_config(),
        "sparse": tiny_bag_config.get_config("sparse"),
    }
    for name in ("features", "sparse"):
        (folder / f"{name}_data").mkdir()
        configs[name].data.path = str(folder / f"{name}_data")
    layouts.two_files(folder / "sparse_data")
    rng = np.random.default_rng(0)
    for split, count in {"train": 40, "test": 9}.items():
        place = folder / "features_data" / split
        place.mkdir()
        np.save(place / "features.npy", rng.normal(size=(count, 6)).astype(np.float32))
        np.save(place / "labels.npy", np.arange(count) % 11)
    for name, config in configs.items():
        config.total_steps, config.eval_every_steps = 2, 0
        train_and_evaluate(config, folder / name)
    return {name: folder / name for name in configs}


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    """Two pictures of each of three people."""
    folder = tmp_path_factory.mktemp("gallery")
    for number in range(6):
        person = folder / f"person {number // 2}"
        person.mkdir(exist_ok=True)
        (person / f"{number}.png").write_bytes(png((8, 8, 3), number))
    return folder


@pytest.fixture(scope="module")
def gate(workdirs, gallery):
    """The application of all runs; the first is asked where none is named."""
    metrics = Metrics()
    models = [
        Served(name, folder, OPTIONS, metrics, gallery if name == "faces" else None)
        for name, folder in workdirs.items()
    ]
    for served in models:
        served.open()
    return application(models, OPTIONS, metrics)


@pytest.fixture(scope="module")
def client(gate):
    with TestClient(gate, base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def address(workdirs):
    """http://127.0.0.1:PORT of a server in a thread of this process, of the pictures and the texts."""
    metrics = Metrics()
    models = [Served(name, workdirs[name], OPTIONS, metrics) for name in ("pictures", "texts")]
    for served in models:
        served.open()
    server = uvicorn.Server(
        uvicorn.Config(application(models, OPTIONS, metrics), port=0, log_level="warning", ws="none")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
