"""Steps of a table that nearly fills this machine, and its memory beside what the compiled program says.

    PYTHONPATH=. python tests/benchmarks/largest.py --config=scaling:images,ohe,owned \
        --field=data.num_classes=100000000 --field=backbone.features_dim=32 --field=global_batch_size=16 \
        --field="table_optimizer.storage='float32'"

The classifier's weights begin at zero, and a batch is made up. Peak is the most memory that the process has had
resident, less what it had before the weights were there: of a table that is far larger than what compiling took.
"""

import argparse
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.build import build_data
from mhe_jax.train.parallel.mesh import CHUNK, place
from mhe_jax.train.reporting import programs, report
from mhe_jax.train.reporting.head_costs import ambient, checked
from tests.benchmarks.card.ours import asked, made_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="NAME[:ARGUMENTS]")
    parser.add_argument("--field", action="append", default=[], help="PATH=VALUE of the config")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    settings, mesh = checked(asked(options.config, options.field))
    with ambient(settings, mesh):
        model = programs.build_model(settings, settings.head, mesh)
        program = programs.compile_train(settings, model, mesh)
        parts = report.memory_bytes(program.memory_analysis())
        chunk = place(mesh, made_up(build_data(settings.data), settings.global_batch_size, 1), CHUNK)
        before = resident()
        state = jax.tree_util.tree_map_with_path(start, model.state)
        jax.block_until_ready((state, chunk))
        started, busy = time.perf_counter(), time.process_time()
        losses = []
        for _ in range(options.steps):
            state, sums = program(state, {}, chunk, np.int32(1))
            total, weight = sums["loss"]
            losses.append(float(total / weight))
    row = {
        "config": options.config,
        "fields": options.field,
        "compiled": sum(parts.values()),
        "peak": resident() - before,
        "seconds": (time.perf_counter() - started) / options.steps,
        "processor seconds": (time.process_time() - busy) / options.steps,
        "losses": losses,
    }
    print(json.dumps({**row, "peak / compiled": row["peak"] / row["compiled"], "jax": jax.__version__}))


def start(path, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros, and a network that makes something of its input."""
    if "backbone" in jax.tree_util.keystr(path) and ".params" in jax.tree_util.keystr(path):
        values = np.random.default_rng(0).normal(size=leaf.shape).astype(leaf.dtype)
        return jax.device_put(values, leaf.sharding)
    return jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)


def resident() -> int:
    """The most bytes so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
