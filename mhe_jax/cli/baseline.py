"""`mhe baseline [METHOD] --config=... [--workdir=DIR]`: what a trained model must beat on a config's data.

On texts, by TF-IDF, and on features as they are, METHOD is one of

  neighbours  the labels of the nearest training documents, by cosine; without a METHOD this one.
  linear      one-vs-rest: a linear support vector machine for each label (DiSMEC); all cores.
  omikuji     trees of labels, Parabel or Bonsai; all cores. Needs the extra `omikuji`.

Pictures with one label each have that of the nearest training picture, by pixels, and faces verification by the cosine
of the pixels.

With --workdir that folder gets result.json, and predictions.npz as `mhe predict` writes it of a run, so that `mhe
ensemble` takes it; predictions_val.npz has the documents that choose a run's best checkpoint, which train no baseline.
"""

import pathlib
import time
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS

_SHOWN = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@3", "PSP@5", "top1", "top5")
_METHODS = ("neighbours", "linear", "omikuji")
# Flags that are of one method alone, which calls them so too.
_OF = {"neighbors": "neighbours", "preset": "omikuji"}
# Flags of texts alone.
_WORDS = ("sublinear_tf", "min_df", "max_features")


def main(argv: list[str]) -> None:
    config_flags.DEFINE_config_file("config", None, "The config whose data is used.")
    flags.DEFINE_string("workdir", None, "Texts, features: folder for the predictions and result.json.")
    flags.DEFINE_string("compare", None, "The result.json of a run, to be printed beside the baseline.")
    flags.DEFINE_integer("neighbors", 15, "neighbours: training documents to ask.", lower_bound=1)
    flags.DEFINE_enum("preset", "parabel", ["parabel", "bonsai"], "omikuji: binary trees, or wide and shallow ones.")
    flags.DEFINE_integer("max_features", 0, "Texts: most frequent words to use; 0: all.", lower_bound=0)
    flags.DEFINE_integer("min_df", 1, "Texts: training documents that a word must be in.", lower_bound=1)
    flags.DEFINE_bool("sublinear_tf", True, "Texts: a word that is n times in a text counts 1 + ln n.")
    flags.mark_flag_as_required("config")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 2 or not set(argv[1:]) <= set(_METHODS):
        raise app.UsageError(f"{' '.join(argv[1:])}: give one of the methods {', '.join(_METHODS)}, or none")
    from mhe_jax.data.build import build_data
    from mhe_jax.data.faces.dataset import FaceData
    from mhe_jax.data.features.dataset import FeatureData
    from mhe_jax.data.texts.dataset import TextData
    from mhe_jax.data.texts.sparse.dataset import SparseData
    from mhe_jax.inference.baseline import read_compared

    started = time.monotonic()
    data = build_data(FLAGS.config.data)
    measured = "accuracy" if isinstance(data, FaceData) else "P@1" if data.multilabel else "top1"
    result = read_compared(pathlib.Path(FLAGS.compare), measured) if FLAGS.compare else {}
    if isinstance(data, TextData | FeatureData | SparseData):
        rows(data, result, argv[1] if len(argv) > 1 else "neighbours")
        return
    if argv[1:] or FLAGS.workdir:
        raise app.UsageError(
            f"{' '.join(argv[1:]) or '--workdir'} is for texts and features, but config.data.name is "
            f"{FLAGS.config.data.name!r}"
        )
    compare = faces if isinstance(data, FaceData) else pictures
    compare(data, result)
    print(f"{time.monotonic() - started:.0f} s")


def rows(data, result: dict[str, Any], method: str) -> None:
    from mhe_jax.data.features.dataset import FeatureData
    from mhe_jax.data.texts.documents import CorpusText
    from mhe_jax.data.texts.sparse.dataset import SparseData
    from mhe_jax.data.texts.sparse.vectorizer import Words
    from mhe_jax.inference import baseline

    if not isinstance(data, CorpusText | FeatureData | SparseData):
        raise app.UsageError(f"the baseline needs texts, but config.data.name is {FLAGS.config.data.name!r}")
    for flag, of in _OF.items():
        if FLAGS[flag].present and of != method:
            raise app.UsageError(f"--{flag} is of {of} alone")
    for flag in _WORDS:
        if FLAGS[flag].present and not isinstance(data, CorpusText):
            raise app.UsageError(f"--{flag} is of texts alone; config.data says what becomes a feature")
    settings = {flag: FLAGS[flag].value for flag, of in _OF.items() if of == method}
    workdir = pathlib.Path(FLAGS.workdir) if FLAGS.workdir else None
    words = Words(sublinear=FLAGS.sublinear_tf, min_documents=FLAGS.min_df, max_vocabulary=FLAGS.max_features)
    found = baseline.run(FLAGS.config, method, settings, words, workdir)
    title = {
        "neighbours": f"{FLAGS.neighbors} nearest documents",
        "linear": "one-vs-rest",
        "omikuji": f"omikuji, {FLAGS.preset}",
    }[method]
    title = f"TF-IDF, {title}" if isinstance(data, CorpusText) else title.replace("documents", "rows")
    kind = "documents" if isinstance(data, CorpusText) else "rows"
    evaluated = [name for name in ("eval", "test") if name in found]
    for name in evaluated:
        print(f"{name}: {found['train']['documents']:,} training and {found[name]['documents']:,} evaluation {kind}")
        print(_line(title, found[name]))
        for which in ("best", "last") if name == "eval" else ("test",):
            if which in result:
                print(_line(f"trained model ({result['head']}), {which}", result[which]))
    predicted = " + ".join(f"{found[name]['predict_cpu_seconds']} for {name}" for name in evaluated)
    print(
        f"{found['seconds']:.0f} s; CPU seconds: {found['train_cpu_seconds']} to train, {predicted}; "
        f"{found['peak_rss_gib']} GiB of memory at most"
    )


def pictures(data, result: dict[str, Any]) -> None:
    from mhe_jax.data.dataset import ArraySplit
    from mhe_jax.evaluation.baselines.nearest_neighbor import nearest_neighbor_top1

    if data.multilabel:
        raise app.UsageError(
            "the baseline of pictures needs one label each, but config.data has any number: if each has one, try "
            "--config.data.single_label=True"
        )
    images = data.load()
    if not (isinstance(images.train, ArraySplit) and isinstance(images.eval, ArraySplit)):
        raise app.UsageError("the baseline needs a data set in memory: try --config.data.in_memory=True")
    top1 = nearest_neighbor_top1(images.train, images.eval)
    print(f"{images.train.num_examples:,} training and {images.eval.num_examples:,} evaluation images")
    print(f"nearest neighbour on the pixels   top-1 {top1:7.2%}")
    for which in ("best", "last"):
        if which in result:
            print(f"trained network ({result['head']}), {which:4}      top-1 {result[which]['top1']:7.2%}")


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
