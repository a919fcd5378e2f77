"""Trains `image_folder_*:small` on few colour pictures, beside a loop in PyTorch such as one writes in a minute.

    PYTHONPATH=. python tests/benchmarks/few_pictures.py --cifar=DIR --seeds=2

The pictures are 60 of each of 20 classes of CIFAR-100 (`DIR/cifar-100-python`), and the 100 test pictures of each, as
PNG in class folders. Both sides have the same network, epochs and augmentation; the loop's batch, rate and decay are
its own. `--heads` names others of our configs to train too.
"""

import contextlib
import io
import itertools
import pathlib
import statistics
import tempfile

import numpy as np
import PIL.Image
import torch
from absl import app, flags
from torch import nn

from mhe_jax.data.images.cifar import Cifar100
from mhe_jax.recipes.files import load_config
from mhe_jax.train.loop import train_and_evaluate

FLAGS = flags.FLAGS
EPOCHS, CLASSES = 14, range(0, 100, 5)


def write_pictures(cifar: str, root: pathlib.Path) -> None:
    """The first pictures of every fifth class, as `root/{train,val}/<class>/<number>.png`."""
    images = Cifar100(path=cifar, num_classes=100).load()
    for name, split, count in (("train", images.train, 60), ("val", images.eval, 100)):
        for label in CLASSES:
            folder = root / name / images.class_names[label]
            folder.mkdir(parents=True)
            for number, row in enumerate(np.flatnonzero(split.labels == label)[:count]):
                PIL.Image.fromarray(split.images[row]).save(folder / f"{number:03}.png")


def ours(head: str, root: pathlib.Path, seed: int) -> float:
    """Top-1 at the end of a run of the config as it is shipped."""
    config = load_config(f"image_folder_{head}:small")
    config.data.path, config.seed = str(root), seed
    config.eval_every_epochs = config.checkpoint_every_epochs = 0.0
    if head == "mhp":
        config.head.rank = FLAGS.rank
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stdout(io.StringIO()):
        return train_and_evaluate(config, workdir)["last"]["top1"]


def read(folder: pathlib.Path) -> tuple[torch.Tensor, torch.Tensor]:
    files = sorted(folder.glob("*/*.png"))
    names = sorted({file.parent.name for file in files})
    pixels = np.stack([np.asarray(PIL.Image.open(file)) for file in files])
    return torch.tensor(pixels).permute(0, 3, 1, 2) / 127.5 - 1, torch.tensor(
        [names.index(f.parent.name) for f in files]
    )


def loop(root: pathlib.Path, seed: int, batch: int = 64, rate: float = 1e-3) -> float:
    """Top-1 of AdamW with a cosine; pictures are cropped from a black frame of four pixels and flipped."""
    torch.manual_seed(seed)
    (images, labels), (held_out, truth) = read(root / "train"), read(root / "val")
    layers: list[nn.Module] = []
    for inner, outer in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inner, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    features = [nn.Flatten(), nn.Linear(128 * 4 * 4, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU()]
    network = nn.Sequential(*layers, *features, nn.Linear(512, len(CLASSES)))
    steps = len(images) // batch
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    padded = nn.functional.pad(images, (4, 4, 4, 4), value=-1.0)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images))[: steps * batch].split(batch):
            corners = torch.randint(0, 9, (batch, 2)).tolist()
            pieces = [padded[row, :, y : y + 32, x : x + 32] for row, (y, x) in zip(rows, corners, strict=True)]
            pictures = torch.stack([piece.flip(2) if torch.rand(()) < 0.5 else piece for piece in pieces])
            loss = nn.functional.cross_entropy(network(pictures), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (network.eval()(held_out).argmax(1) == truth).float().mean().item()


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_pictures(FLAGS.cifar, root)
        sides = {"PyTorch loop": loop} if FLAGS.loop else {}
        sides |= {f"image_folder_{head}:small": lambda *of, head=head: ours(head, *of) for head in FLAGS.heads}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for seed, (name, side) in itertools.product(range(FLAGS.seeds), sides.items()):
            found[name].append(100 * side(root, seed))
            print(f"{name:24} seed {seed}  top-1 {found[name][-1]:.2f}", flush=True)
        for name, values in found.items():
            print(f"{name:24} mean    top-1 {statistics.mean(values):.2f}")


if __name__ == "__main__":
    flags.DEFINE_string("cifar", None, "The folder of cifar-100-python.", required=True)
    flags.DEFINE_integer("seeds", 3, "Runs of each side.")
    flags.DEFINE_list("heads", ["ohe"], "Configs of ours, by head.")
    flags.DEFINE_integer("rank", 8, "Products of the head mhp.")
    flags.DEFINE_bool("loop", True, "Whether to run PyTorch's side.")
    app.run(main)
