"""Times the exact top-k of a mixture of products, beside what is simpler: a shortlist, and scoring every code.

    PYTHONPATH=. python tests/benchmarks/top_codes.py --classes=2919,20000,670091 --ranks=2,8,32
    PYTHONPATH=. python tests/benchmarks/top_codes.py --workdir=runs/glyphs_mhp

Random normal logits of three scales, or those of a trained run on its evaluation pictures. The methods take turns in
one process and the cheapest turn counts: microseconds of processor time per example, of all cores together, which other
programs disturb less than they do the time on the clock. `wrong` is the share of examples of which a method misses one
of the k best scores by more than float32 rounds, as scoring every code tells.
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
flags.DEFINE_integer("k", 5, "Codes wanted.")
flags.DEFINE_integer("rounds", 5, "Turns of each method.")
flags.DEFINE_string("workdir", None, "A trained run with the head 'mhp', whose logits are used instead.")

SHARES = ("exact, wrong", "shortlist, wrong")
_BATCH = 64
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
    """Brute force for two digits, one example after the other: R * C exponentials, and a top-k of C scores."""

    def one(logits):
        rows, columns = logits
        scores = jax.nn.logsumexp(rows[:, :, None] + columns[:, None, :], axis=0)
        return lax.top_k(scores.reshape(-1)[: label_space.num_classes], k)

    return lax.map(one, tuple(logits))


METHODS = {"exact": kronecker.mixture_top_codes, "shortlist": shortlist, "every code": every_code}


def compiled(label_space: LabelSpace) -> dict:
    """The methods as programs `logits -> (scores, ids)`."""
    return {
        method: jax.jit(lambda logits, function=function: function(logits, label_space, FLAGS.k))
        for method, function in METHODS.items()
    }


def compare(name: str, programs: dict, logits) -> None:
    """Prints how often each method is wrong, and for each batch size a line with what the first batch costs."""
    batches = [[x[i : i + _BATCH] for x in logits] for i in range(0, len(logits[0]) // _BATCH * _BATCH, _BATCH)]
    scores = {m: np.concatenate([program(some)[0] for some in batches]) for m, program in programs.items()}
    right = scores["every code"]
    wrong = {m: (np.abs(s - right) > _ROUNDING * (1 + np.abs(right))).any(axis=1).mean() for m, s in scores.items()}
    shares = [f"{100 * wrong[method]:17.1f}%" for method in ("exact", "shortlist")]
    for size in (1, _BATCH):
        # Brute force takes one example after the other, so that a batch of it only takes longer.
        timed = {m: program for m, program in programs.items() if m != "every code" or size == 1}
        seconds = cheapest(timed, [x[:size] for x in logits])
        times = [f"{1e6 * seconds[m] / size:14,.0f}" if m in seconds else f"{'':14}" for m in METHODS]
        print(f"{name:30}{size:6}", *times, *shares, flush=True)


def cheapest(programs: dict, logits) -> dict[str, float]:
    """Processor seconds of each program's cheapest turn."""
    seconds = dict.fromkeys(programs, np.inf)
    for turn in range(FLAGS.rounds + 1):
        for method, program in programs.items():
            started = time.process_time()
            jax.block_until_ready(program(logits))
            if turn > 0:  # the first one compiles
                seconds[method] = min(seconds[method], time.process_time() - started)
    return seconds


def trained(workdir: pathlib.Path):
    """Logits H x [N, R, n_h] of the evaluation pictures of a run, and its label space."""
    run = opened(experiment.usable_config(workdir), workdir)
    head, images = run.task.head, run.load_splits().eval.images

    def logits_of(weights, images):
        return head.apply({"params": weights["params"]["head"]}, run.task.embed(weights, images), method="log_scores")[
            0
        ]

    batches = ((None, images[i : i + _BATCH]) for i in range(0, len(images), _BATCH))
    parts = [logits for _, logits in run.results(run.compiled(logits_of), batches)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)], head.label_space


def main(_: list[str]) -> None:
    titles = [f"{m}, us" for m in METHODS]
    print(f"{'logits':30}{'batch':>6}", *(f"{t:>14}" for t in titles), *(f"{t:>18}" for t in SHARES))
    if FLAGS.workdir:
        logits, space = trained(pathlib.Path(FLAGS.workdir))
        compare(f"{space.num_classes:,}, rank {logits[0].shape[1]}, trained", compiled(space), logits)
        return
    for classes, rank in itertools.product(map(int, FLAGS.classes), map(int, FLAGS.ranks)):
        space = LabelSpace.balanced(classes, 2)
        programs = compiled(space)
        for scale in map(float, FLAGS.scales):
            keys = jax.random.split(jax.random.key(0), 2)
            sizes = zip(keys, space.head_sizes, strict=True)
            logits = [scale * jax.random.normal(key, (_BATCH, rank, size)) for key, size in sizes]
            compare(f"{classes:,}, rank {rank}, scale {scale:g}", programs, logits)


if __name__ == "__main__":
    app.run(main)
