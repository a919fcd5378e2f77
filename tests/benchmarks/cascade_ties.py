"""What ranking a trained cascade by float32 sigmoids changes: the published program's way, with ties broken by place.

    PYTHONPATH=. python tests/benchmarks/cascade_ties.py WORKDIR

For each split that evaluation reads it prints the documents, P@1, P@3 and P@5 of the head's own ranking, by logarithms,
and of the published one; in how many documents that one has equal scores among its first five or between its fifth and
sixth, in how many the first 1, 3 and 5 are others, and the largest logits of groups and labels.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import jax
import numpy as np

from mhe_jax.data.feeds import eval_feed
from mhe_jax.inference.opened import Trained, opened
from mhe_jax.train import experiment

BATCH, KS = 64, (1, 3, 5)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Float32, as torch computes it: 1 from logits of about 17 on."""
    return (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float32)


def published(trained: Trained, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Labels int [B, count] and scores of the published ranking of a two-level cascade; and the largest logits."""
    head, params = trained.task.head, jax.device_get(trained.weights["params"]["head"])
    groups = features @ params["root"]["kernel"] + params["root"].get("bias", 0) + head._offset(0)
    queries = features @ params["project_1"]["kernel"] + params["project_1"].get("bias", 0)
    group_scores = sigmoid(groups)
    kept = np.argsort(-group_scores, axis=1, kind="stable")[:, : head.num_candidates]
    logits = np.einsum("bknd,bd->bkn", params["table_1"][kept], queries) + head._offset(1)
    scores = np.take_along_axis(group_scores, kept, axis=1)[:, :, None] * sigmoid(logits)
    ids = kept[:, :, None] * logits.shape[2] + np.arange(logits.shape[2])
    ids, scores = (part.reshape(len(features), -1) for part in (ids, scores))
    scores = np.where(ids < head.label_space.num_classes, scores, -1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    largest = [float(groups.max()), float(logits.max())]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1), largest


def compare(trained: Trained, split) -> dict:
    top, last = trained.compiled(trained.task.predict, static=("k",)), max(KS)
    embed = trained.compiled(trained.task.embed)
    found: list[tuple] = []
    with contextlib.closing(eval_feed(split, BATCH)) as feed:
        for step in range(feed.steps_per_epoch):
            rows = {name: part[0] for name, part in feed.chunk(step, 1).items()}
            real, inputs = rows["weight"] > 0, {name: rows[name] for name in ("input_ids", "length")}
            _, ours = jax.device_get(top(inputs, k=last))
            theirs, scores, largest = published(trained, jax.device_get(embed(inputs))[real], last + 1)
            found.append((rows["label"][real], ours[real], theirs, scores, np.repeat([largest], real.sum(), axis=0)))
    labels, ours, theirs, scores, largest = (np.concatenate(part) for part in zip(*found, strict=True))
    hits = lambda ids: (ids[:, :, None] == labels[:, None, :]).any(axis=2)
    precision = lambda ids: {f"P@{k}": round(100 * float(hits(ids)[:, :k].mean()), 3) for k in KS}
    others = lambda k: int((np.sort(ours[:, :k], axis=1) != np.sort(theirs[:, :k], axis=1)).any(axis=1).sum())
    return {
        "documents": len(labels),
        "by logarithms": precision(ours),
        "by float32 sigmoids": precision(theirs),
        "documents with ties": int((scores[:, 1:] == scores[:, :-1]).any(axis=1).sum()),
        "documents with another first": {str(k): others(k) for k in KS},
        "largest logits": dict(zip(("groups", "labels"), largest.max(axis=0).round(1).tolist(), strict=True)),
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=pathlib.Path)
    workdir = parser.parse_args(argv).workdir
    trained = opened(experiment.usable_config(workdir), workdir)
    splits = trained.load_splits()
    for name, split in (("eval", splits.eval), ("test", splits.test)):
        if split is not None:
            print(json.dumps({"split": name, **compare(trained, split)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
