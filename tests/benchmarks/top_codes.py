"""Times the exact top-k of a mixture of products, beside what is simpler: a shortlist, and scoring every code.

    PYTHONPATH=. python tests/benchmarks/top_codes.py --classes=2919,20000,670091 --ranks=2,8,32
    PYTHONPATH=. python tests/benchmarks/top_codes.py --workdir=runs/glyphs_mhp

Random normal logits of three scales, or those of a trained run on its evaluation pictures. The candidates take turns in
one process and the fastest turn counts, since the machine may be busy; microseconds per example. `wrong` is the share
of examples of which a method misses one of the k best scores, by more than float32 rounds, as scoring every code tells.
"""

import itertools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from mhe_jax.inference.opened import opened
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker
from mhe_jax.train import experiment

FLAGS = flags.FLAGS
flags.DEFINE_list("classes", ["2919", "20000", "670091"], "Numbers of classes, of two balanced digits.")
flags.DEFINE_list("ranks", ["2", "8", "32"], "Products that are added up.")
flags.DEFINE_list("scales", ["0.1", "1", "5"], "Standard deviations of the logits: flat, medium, peaked.")
flags.DEFINE_list("batches", ["1", "64"], "Examples per call.")
flags.DEFINE_integer("k", 5, "Codes wanted.")
flags.DEFINE_integer("rounds", 5, "Turns of each method.")
flags.DEFINE_string("workdir", None, "A trained run with the head 'mhp', whose logits are used instead.")

SHARES = ("exact, wrong", "shortlist, wrong")
_ROUNDING = 1e-5


def shortlist(logits, label_space, k, size=64):
    """The approximation: the best `size` codes of each product, rescored by the sum."""
    _, ids = kronecker.top_codes(logits, label_space, min(size, label_space.num_classes))
    ids = jnp.sort(ids.reshape(ids.shape[0], -1), axis=1)
    repeated = jnp.diff(ids, axis=1, prepend=-1) == 0
    scores = jnp.where(repeated, -jnp.inf, kronecker.mixture_code_scores(logits, label_space.encode(ids)))
    best, at = lax.top_k(scores, k)
    return best, jnp.take_along_axis(ids, at, axis=1)


def every_code(logits, label_space, k):
    """Brute force, one example after the other: R * C exponentials, and a top-k of C scores."""
    digits = label_space.encode(jnp.arange(label_space.num_classes))[None]
    one = lambda logits: lax.top_k(kronecker.mixture_code_scores([x[None] for x in logits], digits)[0], k)
    return lax.map(one, tuple(logits))


METHODS = {"exact": kronecker.mixture_top_codes, "shortlist": shortlist, "every code": every_code}


def compiled(label_space: LabelSpace) -> dict:
    """The methods as programs `logits -> (scores, ids)`."""
    return {
        method: jax.jit(lambda logits, function=function: function(logits, label_space, FLAGS.k))
        for method, function in METHODS.items()
    }


def compare(name: str, programs: dict, logits, batch: int) -> None:
    """Prints a line: what each method costs on the first `batch` examples, and how often it is wrong on all of them."""
    batches = [[x[i : i + batch] for x in logits] for i in range(0, len(logits[0]) // batch * batch, batch)]
    scores = {m: np.concatenate([program(some)[0] for some in batches]) for m, program in programs.items()}
    seconds = dict.fromkeys(programs, np.inf)
    for _ in range(FLAGS.rounds):
        for method, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program(batches[0]))
            seconds[method] = min(seconds[method], time.perf_counter() - started)
    right = scores["every code"]
    wrong = {m: (np.abs(s - right) > _ROUNDING * (1 + np.abs(right))).any(axis=1).mean() for m, s in scores.items()}
    times = [f"{1e6 * fastest / batch:14,.0f}" for fastest in seconds.values()]
    shares = [f"{100 * wrong[method]:17.1f}%" for method in ("exact", "shortlist")]
    print(f"{name:30}{batch:6}", *times, *shares, flush=True)


def trained(workdir: pathlib.Path):
    """Logits H x [N, R, n_h] of the evaluation pictures of a run, and its label space."""
    with opened(experiment.usable_config(workdir), workdir, load=True) as (run, splits):
        head = run.task.head

        def logits_of(weights, images):
            features = run.task._features(weights, images)
            return head.apply({"params": weights["params"]["head"]}, features, method="_log_scores")[0]

        apply, images = run.compiled(logits_of), splits.eval.columns["image"]
        parts = [jax.device_get(apply(images[i : i + 64])) for i in range(0, len(images) // 64 * 64, 64)]
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)], head.label_space


def main(_: list[str]) -> None:
    titles = [f"{m}, us" for m in METHODS]
    print(f"{'logits':30}{'batch':>6}", *(f"{t:>14}" for t in titles), *(f"{t:>18}" for t in SHARES))
    if FLAGS.workdir:
        logits, space = trained(pathlib.Path(FLAGS.workdir))
        for batch in map(int, FLAGS.batches):
            name = f"{space.num_classes:,}, rank {logits[0].shape[1]}, trained"
            compare(name, compiled(space), logits, batch)
        return
    for classes in map(int, FLAGS.classes):
        space = LabelSpace.balanced(classes, 2)
        programs = compiled(space)
        for rank, batch in itertools.product(map(int, FLAGS.ranks), map(int, FLAGS.batches)):
            for scale in map(float, FLAGS.scales):
                keys = jax.random.split(jax.random.key(0), 2)
                sizes = zip(keys, space.head_sizes, strict=True)
                logits = [scale * jax.random.normal(key, (64, rank, size)) for key, size in sizes]
                compare(f"{classes:,}, rank {rank}, scale {scale:g}", programs, logits, batch)


if __name__ == "__main__":
    app.run(main)
