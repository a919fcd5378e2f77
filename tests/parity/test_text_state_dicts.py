"""State dicts of the published text system, read and written: features, group logits and label logits are PyTorch's."""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mhe_jax.heads import HEADS
from mhe_jax.interop.tables.encoder_fields import encoder_fields
from mhe_jax.interop.torch import export_state_dict, import_state_dict, read_checkpoint
from mhe_jax.labels import LabelSpace
from mhe_jax.models import ENCODERS
from tests.parity import torch_encoders
from tests.parity.torch_xmc import MultiGpuTextModel, TextModel

pytestmark = pytest.mark.torch

RAGGED, FULL = LabelSpace.grouped(23, 6), LabelSpace.grouped(24, 6)
assert RAGGED.head_sizes == FULL.head_sizes == (6, 4)

CASES = {
    "bert-ohe": ("bert", TextModel, LabelSpace(23, (23,))),
    "bert-groups": ("bert", TextModel, RAGGED),
    "roberta-groups": ("roberta", TextModel, FULL),
    "xlnet-groups": ("xlnet", TextModel, RAGGED),
    "bert-multi-gpu": ("bert", MultiGpuTextModel, RAGGED),
    "bert-multi-gpu-full": ("bert", MultiGpuTextModel, FULL),
}


def build(case):
    """The torch model, our encoder and head, and what their variables look like."""
    name, model_class, space = CASES[case]
    grouped = space.num_heads > 1
    torch_encoder = torch_encoders.torch_encoder(name)
    model = model_class(torch_encoder, space.num_classes, *space.head_sizes[:1] if grouped else ()).eval()
    fields = encoder_fields(torch_encoder.config)
    encoder = ENCODERS[fields.pop("name")](**fields, pooling="first", feature_layers=2)
    extra = {"hidden_dim": 7} if grouped else {}
    head = HEADS["mhc" if grouped else "ohe"](label_space=space, features_dim=encoder.features_dim, **extra)

    def init():
        tokens, features = (jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32)), jnp.zeros((1, encoder.features_dim))
        backbone = encoder.init(jax.random.key(0), *tokens, train=False)["params"]
        return {"backbone": backbone, "head": head.init(jax.random.key(0), features, 1, method="topk")["params"]}

    return model, encoder, space, {"params": nn.unbox(jax.eval_shape(init)), "batch_stats": {}}


def numpy_state(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
def test_an_imported_model_computes_the_same(case):
    model, encoder, space, like = build(case)
    variables = import_state_dict(numpy_state(model), like, label_space=space)
    assert variables["batch_stats"] == {}
    ids, lengths = torch_encoders.batch()
    labels = np.array([0, 5, 22, 17, 11])
    with torch.no_grad():
        features, logits = model(torch_encoders.torch_states(model.part(0), ids, lengths))
    head = variables["params"]["head"]
    ours = encoder.apply({"params": variables["params"]["backbone"]}, ids, lengths, False)
    np.testing.assert_allclose(ours, features, rtol=1e-5, atol=1e-5)
    if space.num_heads == 1:
        ours_logits = np.asarray(ours) @ head["kernel"].T + head["bias"][None]
        np.testing.assert_allclose(ours_logits, logits, rtol=1e-5, atol=1e-5)
        return
    ours_logits = np.asarray(ours) @ head["root"]["kernel"] + head["root"]["bias"][None]
    np.testing.assert_allclose(ours_logits, logits, rtol=1e-5, atol=1e-5)
    queries = np.asarray(ours) @ head["project_1"]["kernel"] + head["project_1"]["bias"][None]
    label_logits = (queries * head["table_1"][labels // 4, labels % 4]).sum(1)
    with torch.no_grad():
        expected = model.label_logits(features, torch.from_numpy(labels))
    np.testing.assert_allclose(label_logits, expected, rtol=1e-5, atol=1e-5)
    assert not head["table_1"].reshape(24, 7)[space.num_classes :].any()


@pytest.mark.parametrize("case", CASES)
def test_an_export_is_what_was_imported(case):
    model, _, space, like = build(case)
    state = numpy_state(model)
    variables = import_state_dict(state, like, label_space=space)
    layout = "reference_text_multi_gpu" if isinstance(model, MultiGpuTextModel) else "reference_text"
    exported = export_state_dict(variables, layout, "mhc" if space.num_heads > 1 else "ohe", space)
    for name, array in exported.items():
        expected = state[name]
        if name == "embedding.weight" and len(expected) > space.num_classes:
            expected = np.where(np.arange(len(expected))[:, None] < space.num_classes, expected, 0)
        np.testing.assert_array_equal(array, expected)
    left_out = {name for name in state.keys() - exported.keys() if not name.startswith("norm.")}
    assert all("pooler" in name or "mask_emb" in name for name in left_out), left_out
    missing = model.load_state_dict({name: torch.from_numpy(array) for name, array in exported.items()}, strict=False)
    assert not missing.unexpected_keys


def test_groups_padded_for_a_mesh_come_in_as_zeros_and_stay_out():
    model, _, space, like = build("bert-groups")
    state, table = numpy_state(model), like["params"]["head"]["table_1"]
    padded = jax.ShapeDtypeStruct((8, *table.shape[1:]), table.dtype)
    like["params"]["head"] = {**like["params"]["head"], "table_1": padded}
    variables = import_state_dict(state, like, label_space=space)
    ours = variables["params"]["head"]["table_1"].reshape(32, 7)
    np.testing.assert_array_equal(ours[:23], state["embed.weight"])
    assert not ours[23:].any()
    exported = export_state_dict(variables, "reference_text", "mhc", space)
    np.testing.assert_array_equal(exported["embed.weight"], state["embed.weight"])


@pytest.mark.parametrize(("rows", "fits"), [(22, False), (23, False), (24, True), (25, False)])
def test_a_table_of_another_number_of_labels_is_refused(rows, fits):
    model, _, space, like = build("bert-multi-gpu")
    state = numpy_state(model) | {"embedding.weight": np.zeros((rows, 7), np.float32)}
    if fits:
        import_state_dict(state, like, label_space=space)
        return
    with pytest.raises(ValueError, match=rf"1 of another shape: embedding.weight \({rows}, 7\)"):
        import_state_dict(state, like, label_space=space)


def test_labels_must_be_known():
    model, _, space, like = build("bert-groups")
    with pytest.raises(ValueError, match="label_space is needed"):
        import_state_dict(numpy_state(model), like)
    variables = import_state_dict(numpy_state(model), like, label_space=space)
    with pytest.raises(ValueError, match="label_space is needed"):
        export_state_dict(variables, "reference_text", "mhc")
    with pytest.raises(ValueError, match="'reference_text_multi_gpu' with head 'ohe' lacks .* params/head"):
        export_state_dict(variables, "reference_text_multi_gpu", "ohe", space)


def test_files_as_the_published_system_writes_them(tmp_path):
    """On several GPUs with the run's flags, which are no plain numbers, beside the weights."""
    model, _, _, _ = build("bert-multi-gpu")
    flags = argparse.Namespace(dataset="eurlex4k", lr=1e-4)
    whole = {"model": model.state_dict(), "optimizer": {"state": {}}, "epoch": 3, "args": flags, "max_accuracy": [0.5]}
    torch.save(whole, tmp_path / "model-eurlex4k.bin")
    read = read_checkpoint(tmp_path / "model-eurlex4k.bin")
    jax.tree.map(np.testing.assert_array_equal, read, numpy_state(model))
