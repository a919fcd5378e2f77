"""`mhe baseline --config=... [--compare=RUN/result.json]`: what a trained model must beat on a config's data.

Pictures: the label of the nearest training picture, by pixels. Texts: the labels of the nearest training documents, by
TF-IDF. Faces: verification by the cosine of the pixels.
"""

import pathlib
import time
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS

_SHOWN = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@3", "PSP@5")


def main(argv: list[str]) -> None:
    config_flags.DEFINE_config_file("config", None, "The config whose data is used.")
    flags.DEFINE_string("compare", None, "The result.json of a run, to be printed beside the baseline.")
    flags.DEFINE_integer("neighbors", 15, "Texts: training documents to ask.", lower_bound=1)
    flags.DEFINE_integer("max_features", 0, "Texts: most frequent words to use; 0: all.", lower_bound=0)
    flags.mark_flag_as_required("config")
    program.run(command, argv)


def command(_: list[str]) -> None:
    from mhe_jax.data.build import build_data
    from mhe_jax.data.faces.dataset import FaceData
    from mhe_jax.data.features.dataset import FeatureData
    from mhe_jax.data.texts.dataset import TextData
    from mhe_jax.train.reporting import stored

    started = time.monotonic()
    data = build_data(FLAGS.config.data)
    if isinstance(data, FeatureData):
        raise app.UsageError("there is no baseline for features: features_ohe, a linear probe, is one")
    result = stored.read_object(pathlib.Path(FLAGS.compare)) if FLAGS.compare else {}
    compare = texts if isinstance(data, TextData) else faces if isinstance(data, FaceData) else pictures
    compare(data, result)
    print(f"{time.monotonic() - started:.0f} s")


def pictures(data, result: dict[str, Any]) -> None:
    from mhe_jax.data.dataset import ArraySplit
    from mhe_jax.evaluation.baselines.nearest_neighbor import nearest_neighbor_top1

    images = data.load()
    if not (isinstance(images.train, ArraySplit) and isinstance(images.eval, ArraySplit)):
        raise app.UsageError("the baseline needs a data set in memory: try --config.data.in_memory=True")
    top1 = nearest_neighbor_top1(images.train, images.eval)
    print(f"{images.train.num_examples:,} training and {images.eval.num_examples:,} evaluation images")
    print(f"nearest neighbour on the pixels   top-1 {top1:7.2%}")
    for which in ("best", "last"):
        if which in result:
            print(f"trained network ({result['head']}), {which:4}      top-1 {result[which]['top1']:7.2%}")


def texts(data, result: dict[str, Any]) -> None:
    from mhe_jax.data.texts.documents import CorpusText
    from mhe_jax.evaluation.baselines.tfidf import KS, NearestDocuments, measure

    if not isinstance(data, CorpusText):
        raise app.UsageError(f"the baseline needs texts, but config.data.name is {FLAGS.config.data.name!r}")
    train, splits = data.corpora().train, data.evaluated()
    documents = NearestDocuments(
        train.texts(), train.labels, neighbors=FLAGS.neighbors, max_features=FLAGS.max_features
    )
    inverse = data.inverse_propensity()
    for name, corpus in splits.items():
        print(f"{name}: {train.labels.shape[0]:,} training and {corpus.labels.shape[0]:,} evaluation documents")
        ranked = documents.rank(corpus.texts(), max(KS), corpus.filtered)
        values = measure(ranked, corpus.labels, corpus.filtered, inverse)
        print(_line(f"TF-IDF, {FLAGS.neighbors} nearest documents", values))
        for which in ("best", "last") if name == "eval" else ("test",):
            if which in result:
                print(_line(f"trained model ({result['head']}), {which}", result[which]))


def faces(data, result: dict[str, Any]) -> None:
    from mhe_jax.evaluation.baselines.pixels import pixel_figures

    verification = data.load().eval
    print(f"{verification.num_examples:,} pictures")
    for name, found in pixel_figures(data, verification).items():
        print(
            f"cosine of the pixels   {name:16} accuracy {found['accuracy']:7.2%} ± {found['accuracy_std']:.2%}   "
            f"auc {found['auc']:.4f}   eer {found['eer']:7.2%}   tar@1e-2 {found['tar@1e-2']:7.2%}"
        )
    for which in ("best", "last"):
        if which in result:
            print(f"trained network ({result['head']}), {which:4}  accuracy {result[which]['accuracy']:7.2%}")


def _line(title: str, values: dict[str, Any]) -> str:
    shown = [f"{name} {values[name]:.4f}" for name in _SHOWN if values.get(name) is not None]
    return f"{title:45}" + "   ".join(shown)
