"""`mhe bench-serve RUN [--input=FILE]`: how many requests a second a server answers, and how long each takes.

Starts `mhe serve RUN` on this machine and asks it, first by clients that wait for each answer before they ask again,
then, with --rates, at so many requests a second, whether it keeps up or not. With --url it asks a server that runs.
A request is one input: a line of a file of texts, a picture of a folder, a row of a .npy of features; without --input,
noise of the run's kind.
"""

import asyncio
import base64
import contextlib
import io
import json
import os
import pathlib
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
from absl import app, flags

from mhe_jax.cli import program
from mhe_jax.cli.serve import TOKEN

FLAGS = flags.FLAGS
_MOST = 1000  # inputs that requests take turns with


def main(argv: list[str]) -> None:
    flags.DEFINE_string("input", None, "A file of texts, a picture or a folder of pictures, a .npy of features.")
    flags.DEFINE_string("url", None, "A server that runs, such as http://127.0.0.1:8000, in place of a run.")
    flags.DEFINE_string("model", None, "Name of one of its runs; the first without it.")
    flags.DEFINE_list("clients", ["1", "4", "16", "64"], "Numbers of clients that wait for their answers.")
    flags.DEFINE_list("rates", [], "Requests a second of clients that do not wait.")
    flags.DEFINE_float("seconds", 10.0, "Of each measurement.", 0.1)
    flags.DEFINE_integer("top_k", 5, "Classes of an answer.")
    flags.DEFINE_string("serve_flags", "", "Flags of `mhe serve`, such as '--max_batch=1'.")
    flags.DEFINE_string("output", None, "JSON file of the figures.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if (len(argv) == 2) == (FLAGS.url is not None) or len(argv) > 2:
        raise app.UsageError("one of a run's folder and --url is needed")
    clients = [_above_zero("clients", one) for one in FLAGS.clients]
    rates = [_above_zero("rates", one) for one in FLAGS.rates]
    if any(one != int(one) for one in clients):
        raise ValueError(f"--clients has {','.join(FLAGS.clients)}; whole numbers are needed")
    if FLAGS.url and not FLAGS.url.startswith("http://"):
        raise ValueError(f"--url is {FLAGS.url}; an address that begins with http:// is needed")
    running = contextlib.nullcontext(FLAGS.url.rstrip("/")) if FLAGS.url else _server(argv[1])
    with running as url:
        model = _model(url)
        route = "/v1/predict" if model["predicts"] else "/v1/embed"
        bodies = [_body(model, one) for one in _inputs(model)]
        asyncio.run(_measured(url, route, bodies, [int(one) for one in clients], rates))


async def _measured(url: str, route: str, bodies: list[bytes], clients: list[int], rates: list[float]) -> None:
    from mhe_jax.serving.load import closed_loop, open_loop

    await closed_loop(url, route, bodies, 1, 1.0)  # connections, caches
    print(f"{'':>16}  {'requests/s':>10}  {'p50 ms':>8}  {'p95 ms':>8}  {'p99 ms':>8}  others")
    found = []
    loops: dict[str, tuple[Any, list]] = {"clients": (closed_loop, clients), "a second": (open_loop, rates)}
    for name, (loop, values) in loops.items():
        for value in values:
            seen = await loop(url, route, bodies, value, FLAGS.seconds)
            others = ", ".join(f"{count} {status}" for status, count in seen.others.items()) or "none"
            numbers = f"{seen.per_second:>10.1f}  {seen.p50:>8.1f}  {seen.p95:>8.1f}  {seen.p99:>8.1f}"
            print(f"{f'{value:g} {name}':>16}  {numbers}  {others}", flush=True)
            found.append({name: value, **seen._asdict()})
    if FLAGS.output:
        pathlib.Path(FLAGS.output).write_text(json.dumps(found, indent=2) + "\n")


@contextlib.contextmanager
def _server(workdir: str) -> Iterator[str]:
    """The address of a server for a run, which ends with the block."""
    command = [sys.executable, "-m", "mhe_jax", "serve", f"run={workdir}", "--port=0", *shlex.split(FLAGS.serve_flags)]
    environment = {name: value for name, value in os.environ.items() if name != TOKEN}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if line.startswith("listening on "):
                yield line.removeprefix("listening on ").strip()
                return
        raise ValueError(f"mhe serve {workdir} ended with status {server.wait()}")
    finally:
        server.terminate()
        server.wait()


def _model(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        models = {one["name"]: one for one in json.load(answer)}
    name = FLAGS.model or next(iter(models))
    if name not in models:
        raise ValueError(f"{url} has no model {name!r}; there are: {', '.join(models)}")
    return models[name]


def _body(model: dict, one: object) -> bytes:
    asked = {"inputs": [one], "model": model["name"]}
    if model["predicts"]:
        asked["top_k"] = FLAGS.top_k
    return json.dumps(asked).encode()


def _inputs(model: dict) -> list:
    """Inputs as JSON has them."""
    kind, shape = model["kind"], model["input_shape"]
    if FLAGS.input is None:
        return [_noise(kind, shape, np.random.default_rng(seed)) for seed in range(64)]
    path = pathlib.Path(FLAGS.input)
    if kind == "texts":
        found: list = path.read_text(encoding="utf-8").splitlines()[:_MOST]
    elif kind == "pictures":
        from mhe_jax.data.images.listing import list_pictures

        files = [path] if path.is_file() else [path / name.decode() for name in list_pictures(path)[0][:_MOST]]
        found = [base64.b64encode(file.read_bytes()).decode() for file in files]
    elif kind == "features":
        found = np.load(path, mmap_mode="r")[:_MOST].astype(float).tolist()
    else:
        raise ValueError("a run on sparse features is measured without --input")
    if not found:
        raise ValueError(f"{path} holds no inputs")
    return found


def _noise(kind: str, shape: list[int], draws: np.random.Generator) -> object:
    if kind == "texts":
        return " ".join("".join(map(chr, draws.integers(97, 123, 6))) for _ in range(20))
    if kind == "features":
        return draws.normal(size=shape).round(4).tolist()
    if kind == "sparse":
        indices = draws.choice(shape[0], min(50, shape[0]), replace=False)
        return {"indices": indices.tolist(), "values": draws.random(len(indices)).round(4).tolist()}
    pixels = draws.integers(256, size=shape, dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels[..., 0] if shape[-1] == 1 else pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _above_zero(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError(f"--{flag} has {text!r}; numbers above 0 are needed")
    return value
