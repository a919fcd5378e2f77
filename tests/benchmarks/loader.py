"""Times the picture loader beside plain OpenCV, and how long a streamed run waits for its data.

    PYTHONPATH=. python tests/benchmarks/loader.py --rounds=5
    PYTHONPATH=. python tests/benchmarks/loader.py --mode=stream --workers=-1 --rate=16

By turns, in one process and one thread: the loader's views of training, as the shipped configs have them and
antialiased, and of evaluation; OpenCV's loop, which reads, decodes, crops as they do, resizes without antialias and
turns to RGB; and torchvision's transforms if it is installed. Then the same of faces. Processor time of a picture until
it lies in a batch, the cheapest turn of each. --before=FILE takes part with the decode.py of version 0.2.

--mode=stream steps through training batches; a step takes what a device would that takes `rate` pictures a second for
each core. --mode=start is what a worker process takes to start, and has in memory.

The pictures are made: sums of smooth noise of several scales, of 500x375 pixels and about 46 kB, and the same of
112x112; --pictures=FOLDER takes the .jpg files of a folder instead.
"""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import cv2
import numpy as np
import PIL.Image
from absl import app, flags

from mhe_jax.data.dataset import StreamSplit
from mhe_jax.data.images import views
from mhe_jax.data.images.examples import LoadExample
from mhe_jax.data.images.folder_source import FolderSource

FLAGS = flags.FLAGS


def noise(seed: int, height: int, width: int) -> np.ndarray:
    """A picture of no thing, with details of all sizes: uint8 [height, width, 3]."""
    rng, total = np.random.default_rng(seed), np.full((height, width, 3), 128.0)
    for cells, strength in ((4, 55), (12, 30), (40, 15), (125, 8.5)):
        small = rng.normal(size=(max(2, cells * height // width), cells, 3)) * strength
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 0, 255).astype(np.uint8)


def source(folder: str) -> FolderSource:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
    return FolderSource(folder, (".",), np.array([os.fsencode(name) for name in names]), np.zeros(len(names), np.int32))


def write(folder: pathlib.Path, count: int, height: int, width: int, quality: int) -> FolderSource:
    folder.mkdir()
    for number in range(count):
        size = (height, width) if number % 4 else (width, height)
        PIL.Image.fromarray(noise(number, *size)).save(folder / f"{number:03d}.jpg", quality=quality)
    return source(str(folder))


class OpenCV:
    """What one writes who needs pictures and thinks of nothing else."""

    def __init__(self, pictures: FolderSource, view: str):
        self.pictures, self.view = pictures, view

    def __call__(self, index: int, rng: np.random.Generator) -> np.ndarray:
        path = os.path.join(self.pictures.folder, os.fsdecode(self.pictures.files[index]))
        image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if self.view == "training":
            left, top, right, bottom = views.random_resized_crop_box(*image.shape[:2], rng)
            image = cv2.resize(image[top:bottom, left:right], (224, 224))
            image = cv2.flip(image, 1) if rng.random() < 0.5 else image
        elif self.view == "evaluation":
            height, width = (256 * side // min(image.shape[:2]) for side in image.shape[:2])
            image = views.central(cv2.resize(image, (width, height)), 256, (224, 224))
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def torchvision_of(pictures: FolderSource, view: str):
    """torchvision's recipe up to the tensor, which is what its loaders hand on; None if it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    from torchvision import transforms as t

    steps = {
        "training": [t.RandomResizedCrop(224), t.RandomHorizontalFlip()],
        "evaluation": [t.Resize(256), t.CenterCrop(224)],
        "faces": [],
    }[view]
    transform = t.Compose([*steps, t.PILToTensor()])
    return lambda index, rng: transform(PIL.Image.open(io.BytesIO(pictures.read(index)[0])).convert("RGB"))


class Before:
    """The views of version 0.2, by its mhe_jax/data/images/decode.py."""

    def __init__(self, path: str, pictures: FolderSource, view: str):
        spec = importlib.util.spec_from_file_location("decode_before", path)
        self.decode = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.decode)
        self.pictures, self.view = pictures, view

    def __call__(self, index: int, rng: np.random.Generator) -> np.ndarray:
        data, _, where = self.pictures.read(index)
        image = self.decode.decode(data, 3, where)
        if self.view == "training":
            return self.decode.random_resized_crop_flip(image, 224, rng)
        resize, size = {"evaluation": (256, 224), "faces": (112, 112)}[self.view]
        return self.decode.center_crop(self.decode.resize_shorter(image, resize), (size, size))


def measure(photos: FolderSource, faces: FolderSource) -> None:
    ours = lambda **fields: LoadExample(photos, 224, 3, 256, **fields)
    central, whole_face = ours(), LoadExample(faces, 112, 3, 112)
    candidates = {
        ("training", "ours, shipped configs"): ours(random_crop=True, antialias=False),
        ("training", "ours, antialiased"): ours(random_crop=True),
        ("training", "OpenCV"): OpenCV(photos, "training"),
        ("training", "torchvision"): torchvision_of(photos, "training"),
        ("evaluation", "ours"): lambda index, rng: central(index, None),
        ("evaluation", "OpenCV"): OpenCV(photos, "evaluation"),
        ("evaluation", "torchvision"): torchvision_of(photos, "evaluation"),
        ("faces", "ours"): lambda index, rng: whole_face(index, None),
        ("faces", "OpenCV"): OpenCV(faces, "faces"),
        ("faces", "torchvision"): torchvision_of(faces, "faces"),
    }
    if FLAGS.before:
        for view, pictures in (("training", photos), ("evaluation", photos), ("faces", faces)):
            candidates[view, "ours before"] = Before(FLAGS.before, pictures, view)
    cv2.setNumThreads(1)
    batches = {"training": np.empty((224, 224, 3), np.uint8), "faces": np.empty((112, 112, 3), np.uint8)}
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(FLAGS.rounds + 1):
        for (view, who), load in candidates.items():
            if load is None:
                continue
            count = len(faces) if view == "faces" else len(photos)
            started = time.process_time()
            for index in range(count):
                view_of = load(index, np.random.default_rng((turn, index)))
                if isinstance(view_of, tuple):
                    view_of, _ = view_of
                if isinstance(view_of, np.ndarray):
                    batches.get(view, batches["training"])[:] = view_of
            if turn:
                seconds.setdefault((view, who), []).append((time.process_time() - started) / count)
    print(f"{'view':12}{'who':26}{'cheapest ms':>12}{'median ms':>12}")
    for (view, who), turns in seconds.items():
        print(f"{view:12}{who:26}{min(turns) * 1e3:12.3f}{statistics.median(turns) * 1e3:12.3f}")
    if importlib.util.find_spec("torchvision") is None:
        print("torchvision is not installed")
    fast, whole = ours(random_crop=True, antialias=False), ours(random_crop=True)
    apart = [
        np.abs(np.subtract(*(load(index, np.random.default_rng(index))[0].astype(int) for load in (fast, whole))))
        for index in range(len(photos))
    ]
    print(f"training views with and without antialias differ by {np.mean(apart):.2f} of 255 on average")


def stream(photos: FolderSource) -> None:
    from mhe_jax.data.feeds import train_feed  # imports JAX, and worker processes import this file

    repeated = FolderSource(photos.folder, (".",), np.tile(photos.files, 200), np.tile(photos.labels, 200))
    load = LoadExample(repeated, 224, 3, 256, random_crop=True, antialias=False)
    split = StreamSplit(len(repeated), load, FLAGS.workers)
    with contextlib.closing(train_feed(split, FLAGS.batch_size, seed=0)) as feed:
        step_seconds = FLAGS.batch_size / (FLAGS.rate * len(os.sched_getaffinity(0)))
        started = time.perf_counter()
        feed.chunk(0, 1)
        first, waited = time.perf_counter() - started, 0.0
        begun = time.perf_counter()
        for step in range(1, FLAGS.steps + 1):
            time.sleep(step_seconds)
            asked = time.perf_counter()
            feed.chunk(step, 1)
            waited += time.perf_counter() - asked
        whole = time.perf_counter() - begun
    print(
        f"{FLAGS.steps} steps of {FLAGS.batch_size} pictures, {feed.num_workers} workers, a step of "
        f"{step_seconds * 1e3:.0f} ms: first batch after {first:.2f} s, then "
        f"{FLAGS.steps * FLAGS.batch_size / whole:.1f} pictures a second, {100 * waited / whole:.2f} % of the time "
        "waiting for data"
    )


def started(connection, load) -> None:
    """In a process of its own: says what it has in memory, once it has loaded an example."""
    load(0, None)
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    connection.send((kib["Rss"], kib["Pss"], time.process_time(), "jax" in sys.modules))


def start(photos: FolderSource) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(FLAGS.rounds):
        receiver, sender = context.Pipe(duplex=False)
        begun = time.perf_counter()
        process = context.Process(target=started, args=(sender, LoadExample(photos, 224, 3, 256)))
        process.start()
        rss, pss, processor, has_jax = receiver.recv()
        seconds = time.perf_counter() - begun
        process.join()
        sizes = f"{rss / 1024:.0f} MiB, {pss / 1024:.0f} where what is shared counts in parts"
        imported = "imported" if has_jax else "not imported"
        print(f"first picture after {seconds:.2f} s, {processor:.2f} s of a core; {sizes}; JAX is {imported}")


def main(_):
    versions = {"Python": platform.python_version(), "OpenCV": cv2.__version__, "Pillow": PIL.__version__}
    print(*(f"{name} {version}" for name, version in versions.items()), f"NumPy {np.__version__}", sep=", ")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        photos = source(FLAGS.pictures) if FLAGS.pictures else write(root / "photos", 64, 375, 500, 92)
        faces = source(FLAGS.faces) if FLAGS.faces else write(root / "faces", 256, 112, 112, 90)
        for name, pictures in (("photos", photos), ("faces", faces)):
            size = np.mean([len(pictures.read(index)[0]) for index in range(len(pictures))])
            print(f"{len(pictures)} {name} of {size:,.0f} bytes")
        if FLAGS.mode == "views":
            measure(photos, faces)
        else:
            {"stream": stream, "start": start}[FLAGS.mode](photos)


if __name__ == "__main__":
    flags.DEFINE_enum("mode", "views", ["views", "stream", "start"], "what is measured")
    flags.DEFINE_integer("rounds", 5, "turns of each candidate")
    flags.DEFINE_string("pictures", "", "folder of .jpg files to take instead of made ones")
    flags.DEFINE_string("faces", "", "the same of 112x112 faces")
    flags.DEFINE_string("before", "", "mhe_jax/data/images/decode.py of version 0.2")
    flags.DEFINE_integer("workers", -1, "num_workers of the stream")
    flags.DEFINE_integer("batch_size", 128, "of the stream")
    flags.DEFINE_integer("steps", 20, "of the stream")
    flags.DEFINE_float("rate", 16.0, "pictures a second that a step takes for each core")
    app.run(main)
