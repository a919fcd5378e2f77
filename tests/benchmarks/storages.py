"""Every head at a million classes with its table dense or owned: a device's memory, a step's time here, its traffic.

    PYTHONPATH=. python tests/benchmarks/storages.py --target=h100:1 > storages.md

Memory is that of the step compiled for the target, 1,024 examples of 512 features; seconds are processor seconds of a
step on this machine with `--batch` examples; traffic is what the formulas below say a step has to read and write of the
table, where a gradient or a moment counts as a table. Each is measured in a process of its own.
"""

import argparse
import json
import subprocess
import sys

from mhe_jax.targets import target as targets
from mhe_jax.train.reporting import programs
from mhe_jax.train.reporting.head_costs import ambient, checked
from tests.benchmarks.card.ours import asked

CLASSES, FEATURES, HIDDEN = 1_000_000, 512, 256
HEADS = {"ohe": "images,ohe", "mhp": "images,mhp", "mhc": "images,mhc", "mhs": "images,mhs", "partial": "faces,partial"}
UNION = "{'name':'batch_union'}"
OWNED = "'updates':'owned','rate':10.0", "'updates':'owned','momentum':0.9,'moments':'bfloat16'"
ADAMW = "{'name':'adamw','weight_decay':0.01}"
TABLES = {
    "float32, AdamW": {"optimizer": ADAMW, "table_optimizer": "{'name':'none'}"},
    "float32, SGD": {"table_optimizer": "{'name':'none'}"},
    "owned bfloat16": {"table_optimizer": f"{{'name':'sgd',{OWNED[0]},'storage':'bfloat16'}}"},
    "owned bfloat16, momentum": {"table_optimizer": f"{{'name':'sgd',{OWNED[1]},'storage':'bfloat16'}}"},
    "owned float8": {"table_optimizer": f"{{'name':'sgd',{OWNED[0]},'storage':'float8'}}"},
}
# What the optimizer reads and writes: gradient, rows, and moments.
OPTIMIZER = {"float32, AdamW": 7, "float32, SGD": 5}
BYTES = {"float32, AdamW": 4, "float32, SGD": 4, "owned bfloat16": 2, "owned bfloat16, momentum": 2, "owned float8": 1}


def traffic(head: str, rule: str) -> float:
    """Bytes of the table's in a step; groups of a batch and a cascade's nodes are nearly all here, of `partial` .1.

    The rows are read for the scores and for their gradient. If they are owned they are then written, and momentum read
    and written; if not a gradient of the table is begun, read and written where there are rows, and then the optimizer
    goes through all.
    """
    if head == "mhp":
        return 0.0
    used, width = 0.1 if head == "partial" else 1.0, HIDDEN if head == "mhc" else FEATURES
    owned = 5 if "momentum" in rule else 3
    tables = owned * used if rule.startswith("owned") else 4 * used + 1 + OPTIMIZER[rule]
    return tables * BYTES[rule] * CLASSES * width


def fields_of(head: str, rule: str) -> dict[str, str]:
    """Of the config, as text."""
    fields = {"data.num_classes": str(CLASSES), **TABLES[rule]}
    if head == "mhs":  # of the batch, so that its table can be owned
        fields["head.sampler"] = UNION
    return fields


def memory(head: str, rule: str, target: str) -> tuple[float, float]:
    """MiB of state and batch, and of temporaries."""
    fields = {**fields_of(head, rule), "dtype": "'bfloat16'"}
    config = asked(f"scaling:{HEADS[head]}", [f"{path}={value}" for path, value in fields.items()])
    settings, mesh = checked(config, targets.find(target))
    with ambient(settings, mesh):
        model = programs.build_model(settings, settings.head, mesh)
        found = programs.cost(lambda: programs.compile_train(settings, model, mesh), mesh)
    return found.arguments / 2**20, found.temporaries / 2**20


def seconds(head: str, rule: str, batch: int, steps: int) -> float:
    """Processor seconds of a step on this machine."""
    fields = {**fields_of(head, rule), "global_batch_size": str(batch)}
    command = [sys.executable, "tests/benchmarks/largest.py", f"--config=scaling:{HEADS[head]}", f"--steps={steps}"]
    command += [f"--field={path}={value}" for path, value in fields.items()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["processor seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="h100:1")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    print(f"| | | {options.target}: state and batch | temporaries | here, s | table traffic, MiB |")
    print("|---|---|---|---|---|---|")
    for head in HEADS:
        for rule in TABLES:
            if head == "mhp" and rule.startswith("owned"):
                continue
            state, temporaries = memory(head, rule, options.target)
            here, moved = seconds(head, rule, options.batch, options.steps), traffic(head, rule) / 2**20
            print(f"| `{head}` | {rule} | {state:,.0f} | {temporaries:,.0f} | {here:.2f} | {moved:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
