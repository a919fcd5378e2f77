"""What a config's compiled step says that it takes of an accelerator, what it then takes, and how fast it is.

    PYTHONPATH=. python tests/benchmarks/card/ours.py --config=imagenet_ohe --field=global_batch_size=256 \
        --turns=/tmp/turns --output=card.jsonl

Weights are random and one made-up batch lies on the device. Sizes that a config leaves to the data are those of
`targets.py`. Set XLA_PYTHON_CLIENT_PREALLOCATE=false where several of these run at once.
"""

import argparse
import ast
import json
import os
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.recipes.files import load_config
from mhe_jax.train.parallel.mesh import CHUNK, place
from mhe_jax.train.reporting import programs, report
from mhe_jax.train.reporting.head_costs import ambient, checked
from mhe_jax.train.state import TrainState
from mhe_jax.train.step import dispatch_length
from tests.benchmarks.card.turns import alone, compiling
from tests.benchmarks.targets import filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="NAME[:ARGUMENTS]")
    parser.add_argument("--field", action="append", default=[], help="PATH=VALUE of the config")
    parser.add_argument("--turns", required=True, help="file that the programs of one card lock")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON lines")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of three measurements")
    options = parser.parse_args()
    lock = compiling(options.turns)
    settings, mesh = checked(filled(asked(options.config, options.field)))
    data = build_data(settings.data)
    with ambient(settings, mesh):
        model = programs.build_model(settings, settings.head, mesh)
        streamed = isinstance(data, ImageData) and data.streamed
        steps = dispatch_length(settings.steps_per_dispatch, jax.default_backend(), streamed)
        started = time.monotonic()
        train = programs.compile_train(settings, model, mesh, steps=steps)
        compiled = time.monotonic() - started
        os.close(lock)
        with alone(options.turns):
            batch = made_up(data, settings.global_batch_size, steps)
            row = measured(settings, mesh, model, train, batch, options.seconds)
    row = {"config": options.config, "fields": options.field, "steps_per_dispatch": steps, **row}
    row |= {"compile_seconds": round(compiled), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(json.dumps(row))
    with options.output.open("a") as file:
        file.write(json.dumps(row) + "\n")


def asked(name: str, fields: list[str]) -> ConfigDict:
    """A config with fields of the command line, PATH=VALUE."""
    config = load_config(name)
    for field in fields:
        path, _, value = field.partition("=")
        config.update_from_flattened_dict({path: ast.literal_eval(value)})
    return config


def made_up_state(abstract: TrainState) -> TrainState:
    """Weights of no meaning, zeros elsewhere: what initialises a model takes longer to compile than its step."""

    def leaf(path, shape):
        where = jax.tree_util.keystr(path)
        if not where.startswith((".params", ".batch_stats")):
            return jnp.zeros(shape.shape, shape.dtype)
        if where.startswith(".batch_stats") or "scale" in where:
            return jnp.ones(shape.shape, shape.dtype)
        places = [jax.lax.broadcasted_iota(jnp.uint32, shape.shape, axis) for axis in range(len(shape.shape))]
        mixed = sum(place * jnp.uint32(0x9E3779B9 + 2 * axis) for axis, place in enumerate(places))
        mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA6B)
        return (((mixed >> 16).astype(jnp.float32) / 2**16 - 0.5) / 16).astype(shape.dtype)

    shardings = jax.tree.map(lambda shape: shape.sharding, abstract)
    fill = jax.jit(lambda: jax.tree_util.tree_map_with_path(leaf, abstract), out_shardings=shardings)
    return fill()


def made_up(data: Any, size: int, steps: int) -> dict[str, np.ndarray]:
    """A chunk of batches as the feed would give it."""
    random, batches = np.random.default_rng(0), {}
    for name, leaf in data.abstract_batch(size).items():
        shape = (steps, *leaf.shape)
        if name == "weight":
            batches[name] = np.ones(shape, np.float32)
        elif name == "length":
            batches[name] = np.full(shape, data.abstract_batch(size)["input_ids"].shape[1], np.int32)
        else:
            bound = {"image": 256, "label": data.num_classes, "input_ids": 30_000}[name]
            batches[name] = random.integers(0, bound, shape, leaf.dtype)
    if batches["label"].ndim == 3:  # a document has some labels, and -1 from there on
        batches["label"][:, :, 5:] = -1
    return batches


def measured(settings, mesh, model, train, batch, seconds: float) -> dict[str, Any]:
    device = jax.devices()[0]
    stats = lambda: device.memory_stats() or {}
    predicted = report.memory_bytes(train.memory_analysis())
    while_compiling = stats().get("peak_bytes_in_use")
    state = made_up_state(model.state)
    chunk, count = place(mesh, batch, CHUNK), np.int32(batch["weight"].shape[0])
    jax.block_until_ready((state, chunk))
    before, in_use = stats().get("peak_bytes_in_use"), stats().get("bytes_in_use")

    def run(dispatches: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(dispatches):
            state, sums = train(state, {}, chunk, count)
        jax.block_until_ready((state, sums))
        return (time.perf_counter() - started) / dispatches

    run(1)
    dispatches = max(2, int(seconds / run(2)))
    times = [run(dispatches) for _ in range(3)]
    return {
        "predicted": sum(predicted.values()),
        "predicted_parts": predicted,
        "peak": stats().get("peak_bytes_in_use"),
        "peak_while_compiling": while_compiling,
        "peak_before_steps": before,
        "in_use_before_steps": in_use,
        "limit": stats().get("bytes_limit"),
        "examples_per_second": float(batch["weight"].size / statistics.median(times)),
        "spread": (max(times) - min(times)) / statistics.median(times),
    }


if __name__ == "__main__":
    main()
