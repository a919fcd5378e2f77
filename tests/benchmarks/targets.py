"""Every shipped config, compiled for accelerators that are not here: the table of docs/targets.md.

    python tests/benchmarks/targets.py --target=h100:1 --target=h100:8 --target=tpu-v6e:4 --output=targets.jsonl

What leaves its sizes to the data is given 10,000 classes, three channels and batches of 256. Rows that are in the file
already are not compiled again. Needs the extra `aot`.
"""

import argparse
import json
import pathlib
import time
from typing import Any

from ml_collections import ConfigDict

from mhe_jax.recipes.files import load_config, shipped_names
from mhe_jax.targets import target as targets
from mhe_jax.train.reporting.head_costs import HeadCost, checked, measure

OWN_DATA = {"data.num_classes": 10_000, "data.features_dim": 512, "data.channels": 3, "global_batch_size": 256}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--config", action="append", help="NAME[:ARGUMENTS]; all that are shipped by default")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON lines")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.exists() else []
    done = {(row["config"], row["target"]) for row in rows}
    for name in options.config or shipped_names():
        for text in options.target:
            if (name, text) not in done:
                rows.append(row := measured(name, text))
                with options.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(rows, options.target))


def measured(name: str, text: str) -> dict[str, Any]:
    """The figures of one config on one target, in bytes; or what the compiler said."""
    config, started = filled(load_config(name)), time.monotonic()
    row = {"config": name, "target": text, "batch": config.global_batch_size}
    target = targets.find(text)
    try:
        settings, mesh = checked(config, target)
        (cost,) = measure([(settings, settings.head, mesh)])
    except ValueError as error:  # a mesh or a batch that this number of devices cannot have
        return {**row, "error": str(error)}
    return {**row, **figures(cost), "verdict": target.verdict(cost.peak), "seconds": round(time.monotonic() - started)}


def figures(cost: HeadCost) -> dict[str, Any]:
    return {
        "state": cost.train.arguments,
        "train": cost.train.temporaries,
        "evaluation": cost.evaluation.temporaries,
        "peak": cost.peak,
        "sent": cost.train.all_sent,
        "estimate": cost.train.seconds,
    }


def filled(config: ConfigDict) -> ConfigDict:
    """The config with sizes where it leaves them to the data."""
    fields = {path: value for path, value in OWN_DATA.items() if _field(config, path) == 0}
    config.update_from_flattened_dict(fields)
    return config


def _field(config: ConfigDict, path: str) -> Any:
    for name in path.split("."):
        config = config.get(name)
    return config


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Markdown: of each config and target MiB at the peak of a device and MiB sent in a step, or the reason why not."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = row["error"].partition(":")[0] if "error" in row else f"{mib(row['peak'])}; {mib(row['sent'])}"
        if row.get("verdict", "fits") != "fits":
            shown += f" ({row['verdict']})"
        cells.setdefault(row["config"], {"batch": str(row["batch"])})[row["target"]] = shown
    lines = [f"| config | batch | {' | '.join(names)} |", "|" + "---|" * (2 + len(names))]
    for name, by_target in cells.items():
        lines.append(f"| `{name}` | {by_target['batch']} | {' | '.join(by_target.get(one, '-') for one in names)} |")
    return "\n".join(lines)


def mib(size: float | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**20:,.0f}"


if __name__ == "__main__":
    main()
