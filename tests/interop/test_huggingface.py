"""Hugging Face folders in and out: configs, weights in every kind of file, and what is wrong with them."""

import json

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
from ml_collections import ConfigDict

from mhe_jax.interop import huggingface
from mhe_jax.models import build_backbone

SIZES = {"vocab_size": 31, "hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 17}
OWN = {"pooling": "mean", "feature_layers": 2, "feature_dropout": 0.5, "remat": True}
SECTIONS = {
    "bert": {"name": "bert", "max_positions": 13, "activation": "relu", "norm_eps": 1e-5, "hidden_dropout": 0.2},
    "roberta": {"name": "bert", "max_positions": 13, "position_offset": 2, "token_types": 1, "attention_dropout": 0.3},
    "distilbert": {"name": "bert", "max_positions": 13, "token_types": 0, "drop_attention_output": False},
    "mpnet": {
        "name": "bert",
        "max_positions": 13,
        "position_offset": 2,
        "token_types": 0,
        "relative_positions": True,
        "norm_eps": 1e-5,
    },
    "modernbert": {
        "name": "modernbert",
        "max_positions": 13,
        "local_window": 4,
        "global_every": 2,
        "global_theta": 70.0,
        "hidden_dropout": 0.2,
        "num_layers": 4,
    },
    "xlnet": {"name": "xlnet", "norm_eps": 1e-5, "hidden_dropout": 0.2, "attention_dropout": 0.2},
}


def section_of(kind, **fields):
    return ConfigDict({**SIZES, **OWN, **SECTIONS[kind], **fields})


def abstract_params(section):
    encoder = build_backbone(section, jnp.float32)
    tokens = jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32)
    return jax.eval_shape(lambda: encoder.init(jax.random.key(0), *tokens, train=False))["params"]


def filled(abstract, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape)).astype(np.float32), abstract)


def pretrained(folder, **fields):
    return huggingface.encoder_section(ConfigDict({"name": "pretrained", "checkpoint": str(folder), **fields}))


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture
def saved(tmp_path):
    """A BERT's section, parameters, folder, and state dict as it lies there."""
    section = section_of("bert")
    params = filled(abstract_params(section))
    huggingface.save_encoder(params, section, tmp_path)
    return section, params, tmp_path, safetensors.numpy.load_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", SECTIONS)
def test_what_was_saved_is_loaded(kind, tmp_path):
    section = section_of(kind)
    params = filled(abstract_params(section))
    huggingface.save_encoder(params, section, tmp_path / "new" / "folder")
    read = pretrained(tmp_path / "new" / "folder", **OWN)
    assert json.loads((tmp_path / "new" / "folder" / "config.json").read_text())["model_type"] == kind
    assert build_backbone(read, jnp.float32) == build_backbone(section, jnp.float32)
    assert_same(huggingface.load_encoder(str(tmp_path / "new" / "folder"), abstract_params(read)), params)


@pytest.mark.torch
@pytest.mark.parametrize("kind", SECTIONS)
def test_transformers_loads_what_was_saved(kind, tmp_path):
    import torch
    import transformers

    section = section_of(kind)
    params = filled(abstract_params(section))
    huggingface.save_encoder(params, section, tmp_path)
    model, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all(name.startswith("pooler.") or name == "mask_emb" for name in report["missing_keys"])
    ids, length = np.random.default_rng(0).integers(5, 31, (3, 7)).astype(np.int32), np.full(3, 7, np.int32)
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(ids).long(), output_hidden_states=True).hidden_states
    encoder = build_backbone(section, jnp.float32)
    run = jax.jit(lambda params: encoder.apply({"params": params}, ids, length, False, method="hidden_states"))
    for ours, expected in zip(run(params), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_dropout_rates_are_the_checkpoints_unless_given(saved):
    _, _, folder, _ = saved
    own = pretrained(folder, hidden_dropout=-1.0, attention_dropout=-1.0)
    assert (own.hidden_dropout, own.attention_dropout) == (0.2, 0.1)
    given = pretrained(folder, hidden_dropout=0.0, attention_dropout=0.4)
    assert (given.hidden_dropout, given.attention_dropout) == (0.0, 0.4)
    with pytest.raises(
        ValueError, match="config.backbone.hidden_size is not a field of 'pretrained', which takes: check"
    ):
        pretrained(folder, hidden_size=3)


@pytest.mark.parametrize("prefix", ["bert.", "model.", "0.auto_model.", "model.bert."])
def test_other_names_of_the_same_weights(saved, prefix):
    """Any prefix, heads of pre-training, buffers, and the names of normalisations that old checkpoints have."""
    _, params, folder, state = saved
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, array in state.items():
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        renamed[prefix + name] = array
    zero = np.zeros(3, np.float32)
    outer = prefix[: prefix.rstrip(".").rfind(".") + 1]
    extra = [outer + name for name in ("cls.predictions.bias", "lm_head.dense.weight", "classifier.weight")]
    extra += [prefix + name for name in ("pooler.dense.weight", "embeddings.position_ids")]
    safetensors.numpy.save_file(renamed | dict.fromkeys(extra, zero), folder / "model.safetensors")
    assert_same(huggingface.load_encoder(str(folder), params), params)


def test_weights_in_parts(saved):
    _, params, folder, state = saved
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {f"model-0000{i}-of-00002.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    for part, own in parts.items():
        safetensors.numpy.save_file({name: state[name] for name in own}, folder / part)
    index = {"weight_map": {name: part for part, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(huggingface.load_encoder(str(folder), params), params)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks model-00002-of-00002.safetensors, which model.safetensors.index.json"):
        huggingface.load_encoder(str(folder), params)
    (folder / "model.safetensors.index.json").write_text('{"weights": 3}')
    with pytest.raises(ValueError, match="model.safetensors.index.json is not a readable index of weights"):
        huggingface.load_encoder(str(folder), params)


@pytest.mark.torch
@pytest.mark.parametrize("parts", [1, 2])
def test_pytorch_model_bin(saved, parts):
    import torch

    _, params, folder, state = saved
    (folder / "model.safetensors").unlink()
    tensors = {f"bert.{name}": torch.from_numpy(array) for name, array in state.items()}
    if parts == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        names, files = sorted(tensors), [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        for i, file in enumerate(files):
            torch.save({name: tensors[name] for name in names[i::2]}, folder / file)
        index = {"weight_map": {name: files[i % 2] for i, name in enumerate(names)}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_same(huggingface.load_encoder(str(folder), params), params)


@pytest.mark.torch
def test_a_pickled_module_is_refused(saved):
    import torch

    _, params, folder, _ = saved
    (folder / "model.safetensors").unlink()
    torch.save(torch.nn.Linear(2, 3), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin pickles Python objects"):
        huggingface.load_encoder(str(folder), params)


def test_weights_that_do_not_fit_are_listed(saved):
    _, params, folder, state = saved
    wrong = dict(state)
    del wrong["encoder.layer.0.attention.self.query.weight"]
    wrong["encoder.layer.7.output.dense.bias"] = np.zeros(3, np.float32)
    wrong["embeddings.position_embeddings.weight"] = np.zeros((5, 12), np.float32)
    safetensors.numpy.save_file(wrong, folder / "model.safetensors")
    with pytest.raises(ValueError, match="the state dict does not fit the model") as error:
        huggingface.load_encoder(str(folder), params)
    message = str(error.value)
    assert message.startswith(f"{folder}: ")
    assert "1 missing: params/backbone/layer_0/query/kernel" in message
    assert "1 unexpected: encoder.layer.7.output.dense.bias" in message
    assert "1 of another shape: embeddings.position_embeddings.weight (5, 12)" in message
    safetensors.numpy.save_file({"wte.weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match="are of no encoder of bert, distilbert, mpnet, modernbert, xlnet: their names are wte.weight"
    ):
        huggingface.load_encoder(str(folder), params)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        huggingface.load_encoder(str(folder), params)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has none of model\.safetensors, .*pytorch_model\.bin.*; give a folder"):
        huggingface.load_encoder(str(folder), params)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("bert", {"model_type": "gpt2"}, "is a checkpoint of model_type 'gpt2' .*; supported are bert, roberta"),
        ("bert", {"model_type": None}, "is a checkpoint of model_type None"),
        ("bert", {"is_decoder": True}, "is_decoder is True in config.json; only False is supported"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ("bert", {"hidden_act": "silu"}, "hidden_act is 'silu' in config.json; it must be one of gelu"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets is 64"),
        ("xlnet", {"attn_type": "uni"}, "attn_type is 'uni' in config.json; only 'bi' is supported"),
        ("xlnet", {"clamp_len": 9}, "clamp_len is 9"),
        ("modernbert", {"norm_bias": True}, "norm_bias is True in config.json; only False is supported"),
        ("modernbert", {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, "only every n-th layer"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 9.0}}},
            "rope_parameters of full_attention are of type 'linear'",
        ),
        ("bert", {"hidden_size": "many"}, "hidden_size"),
    ],
)
def test_checkpoints_of_another_architecture_are_named(kind, fields, message, tmp_path):
    section = section_of(kind)
    huggingface.save_encoder(filled(abstract_params(section)), section, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises(ValueError, match=message) as error:
        pretrained(tmp_path)
    assert str(error.value).startswith(str(tmp_path))


def test_relatives_of_roberta_are_read(tmp_path):
    section = section_of("roberta")
    huggingface.save_encoder(filled(abstract_params(section)), section, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    expected = pretrained(tmp_path)
    for model_type in ("xlm-roberta", "camembert"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
        assert pretrained(tmp_path) == expected


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "distilbert",
            {"norm_eps": 1e-5},
            "transformers' distilbert has norm_eps = 1e-12, but config.backbone's is 1e-05",
        ),
        ("mpnet", {"position_offset": 1}, "transformers' mpnet has position_offset = 2"),
        ("roberta", {"token_types": 0}, "transformers' roberta has token_types = 1"),
    ],
)
def test_encoders_that_transformers_lacks_are_not_written(kind, fields, message, tmp_path):
    section = section_of(kind, **fields)
    with pytest.raises(ValueError, match=message):
        huggingface.save_encoder(filled(abstract_params(section)), section, tmp_path)


def test_folders_and_ids_without_files(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"has no config\.json; give a folder with config\.json, the tokenizer's files"
    ):
        pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a readable config"):
        pretrained(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        ValueError, match=r"'some/model' is no folder.* config\.json is neither .*give a folder with config"
    ):
        pretrained("some/model")
    with pytest.raises(ValueError, match=r"model\.safetensors is neither in the local cache"):
        huggingface.load_encoder("some/model", {})
    with pytest.raises(ValueError, match="there is no folder no/such/folder, and it is no Hugging Face id either"):
        pretrained("no/such/folder")


def test_what_the_hubs_cache_has_in_any_form_is_used_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--me--tiny"
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    torch.save({"a": torch.ones(2)}, model / "snapshots" / "abc" / "pytorch_model.bin")
    assert huggingface._read_weights("me/tiny")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(("tokens", "vocab", "fits"), [
    (30522, 30522, True), (30522, 30528, True), (50265, 50304, True), (130, 192, True), (130, 256, True),
    (128, 128, True), (128, 192, False), (30522, 30523, True), (250002, 250037, True), (30522, 30827, True),
    (30522, 30828, False), (30522, 28996, False), (28996, 30522, False), (30522, 30521, False),
])  # fmt: skip
def test_a_tokenizer_of_another_checkpoint_is_refused(tokens, vocab, fits):
    if fits:
        huggingface.check_vocabulary(tokens, vocab, "config.backbone.vocab_size")
        return
    with pytest.raises(
        ValueError, match=f"config.backbone.vocab_size is {vocab}, but the tokenizer has {tokens} tokens"
    ):
        huggingface.check_vocabulary(tokens, vocab, "config.backbone.vocab_size")
