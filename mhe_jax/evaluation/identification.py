"""Who is it? 1:N identification: probes are searched for in a gallery that may or may not hold their subject.

A probe whose subject is in the gallery is mated. Closed set: the share of mated probes whose subject is among the k
most similar templates. Open set, at a similarity that a search must reach to report anything: FPIR, the false positive
identification rate, is the share of unmated probes that find anybody; TPIR, the true positive identification rate, is
the share of mated probes whose most similar template is of their subject and reaches it. The terms are those of IJB-C
(Maze et al., 2018).
"""

from collections.abc import Mapping

import numpy as np

from mhe_jax.evaluation.ijb_meta import Subjects
from mhe_jax.evaluation.similarity import search
from mhe_jax.evaluation.verification import roc

RANKS = (1, 5, 10)
FPIRS = ("1e-1", "1e-2")
_RATES = (*(f"rank{k}" for k in RANKS), *(f"tpir@{rate}" for rate in FPIRS))


def identify(
    gallery: np.ndarray, gallery_subjects: np.ndarray, probes: np.ndarray, probe_subjects: np.ndarray
) -> dict[str, float]:
    """`rank1`, `rank5`, `rank10`; `tpir@1e-1`, `tpir@1e-2`; and the numbers of probes, `mated` and `unmated`.

    The TPIR is the largest at a FPIR of at most the one asked for. It is NaN if that is below 1/unmated, and all rates
    are NaN if no probe is mated.

    Args:
      gallery: float [G, D]. gallery_subjects: int [G].
      probes: float [P, D]. probe_subjects: int [P].

    Raises:
      ValueError: if an embedding is not finite.
    """
    similarities, rows = search(probes, gallery, min(RANKS[-1], len(gallery)))
    right = gallery_subjects[rows] == probe_subjects[:, None]
    mated = np.isin(probe_subjects, gallery_subjects)
    counts = {"mated": float(np.count_nonzero(mated)), "unmated": float(np.count_nonzero(~mated))}
    figures = dict.fromkeys(_RATES, float("nan"))
    if mated.any():
        for k in RANKS:
            figures[f"rank{k}"] = float(right[mated, :k].any(axis=1).mean())
        if not mated.all():
            # Mated probes that find somebody else are never reported rightly: below every similarity.
            reached = np.where(right[:, 0] | ~mated, similarities[:, 0], -2)
            curve = roc(reached, mated)
            figures.update({f"tpir@{rate}": curve.tar_at(float(rate)) for rate in FPIRS})
    return {**figures, **counts}


def identify_templates(
    embeddings: np.ndarray, galleries: Mapping[str, Subjects], probes: Subjects
) -> dict[str, dict[str, float]]:
    """The figures of `identify` for each gallery, their `mean`, and for the galleries put together, as `G1+G2`.

    The mean over the two galleries is the protocol's figure. Put together they hold every probe's subject: nothing is
    open then, and published rank-1 figures of some systems (insightface) are of that search.

    Args:
      embeddings: float32 [T, D] of the templates that galleries and probes name by row.
    """
    both = Subjects(
        *(np.concatenate([getattr(g, part) for g in galleries.values()]) for part in ("templates", "subjects"))
    )
    results = {
        name: identify(embeddings[g.templates], g.subjects, embeddings[probes.templates], probes.subjects)
        for name, g in {**galleries, "+".join(galleries): both}.items()
    }
    mean = {key: float(np.mean([results[name][key] for name in galleries])) for key in _RATES}
    return {**results, "mean": mean}
