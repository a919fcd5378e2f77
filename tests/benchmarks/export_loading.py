"""Sizes of exported runs, and the CPU seconds from a file to the first answer: `export_loading.py FOLDER...`.

Each folder, written by `mhe export`, is loaded in a process of its own, and asked about one picture of zeros. Seconds
are those of the processor, of all threads, without the imports: other work on the machine does not count.
"""

import json
import multiprocessing
import pathlib
import sys
import time

import numpy as np


def load(folder: pathlib.Path, kind: str):
    """What answers, and the module whose import is not counted."""
    if kind == "onnx":
        import onnxruntime

        return lambda: onnxruntime.InferenceSession(str(folder / "model.onnx")), lambda model, x: model.run(None, x)
    if kind == "stablehlo":
        from jax import export, jit

        path = folder / "model.stablehlo"
        return lambda: jit(export.deserialize(bytearray(path.read_bytes())).call), lambda model, x: model(x)
    import mhe_jax.inference.run as run

    return lambda: run.load(folder), lambda model, x: model.predict(x["image"])


def measure(folder: str, height: int, width: int, channels: int) -> None:
    path = pathlib.Path(folder)
    manifest = json.loads((path / "manifest.json").read_text())
    make, ask = load(path, manifest["format"])
    picture = {"image": np.zeros((1, height, width, channels), np.uint8)}
    started = time.process_time()
    model = make()
    loaded = time.process_time()
    ask(model, picture)
    answered = time.process_time()
    size = sum(manifest["bytes"].values()) / 2**20
    print(f"{folder}: {size:.1f} MiB, {loaded - started:.2f} s to load, {answered - loaded:.2f} s to the first answer")


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for name in sys.argv[1:]:
        process = context.Process(target=measure, args=(name, 32, 32, 1))
        process.start()
        process.join()
