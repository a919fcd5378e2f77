"""Insightface's backbones and its classifiers in pieces: round trips, merging, splitting, and errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.cli import shards
from mhe_jax.heads import HEADS
from mhe_jax.interop import face_heads
from mhe_jax.interop.torch import export_state_dict, import_state_dict
from mhe_jax.labels import LabelSpace
from mhe_jax.models.faces.iresnet import IResNet
from mhe_jax.models.faces.mobilefacenet import MobileFaceNet
from mhe_jax.models.faces.vit import FaceViT

DIM, SHAPE = 6, (1, 32, 48, 3)
BACKBONES = {
    "insightface_iresnet": IResNet(18, features_dim=DIM),
    "insightface_mobilefacenet": MobileFaceNet(features_dim=DIM),
    "insightface_vit": FaceViT(features_dim=DIM, width=8, depth=2, num_heads=2),
}
SPACE = LabelSpace(11, (3, 4))


def abstract_variables(layout, head=None, space=SPACE):
    def init():
        key = jax.random.key(0)
        variables = BACKBONES[layout].init(key, jnp.zeros(SHAPE), train=False)
        params = {"backbone": variables["params"]}
        if head:
            fields = {"use_bias": False} if head == "ohe" else {}
            classifier = HEADS[head](label_space=space, features_dim=DIM, **fields)
            params["head"] = classifier.init(key, jnp.zeros((1, DIM)), 1, method="topk")["params"]
        return {"params": params, "batch_stats": variables["batch_stats"]}

    return nn.unbox(jax.eval_shape(init))


def filled(abstract, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract)


@pytest.mark.parametrize("layout", BACKBONES)
@pytest.mark.parametrize("head", [None, "ohe", "mhs"])
def test_a_round_trip_is_exact(layout, head):
    space = LabelSpace(11, (11,)) if head == "ohe" else SPACE
    abstract = abstract_variables(layout, head, space)
    variables = filled(abstract)
    state = export_state_dict(variables, layout, head)
    frozen = layout == "insightface_iresnet"
    assert len(state) == len(jax.tree.leaves(variables)) + frozen
    back = import_state_dict(state, abstract)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_published_names_are_used():
    iresnet = export_state_dict(filled(abstract_variables("insightface_iresnet", "ohe")), "insightface_iresnet", "ohe")
    shapes = {name: array.shape for name, array in iresnet.items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["layer2.1.prelu.weight"] == (128,)
    assert shapes["layer4.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert shapes["fc.weight"] == (DIM, 512 * 2 * 3)
    assert shapes["features.running_var"] == (DIM,)
    assert shapes["weight"] == (11, DIM)
    np.testing.assert_array_equal(iresnet["features.weight"], np.ones(DIM))
    mobile = export_state_dict(filled(abstract_variables("insightface_mobilefacenet")), "insightface_mobilefacenet")
    shapes = {name: array.shape for name, array in mobile.items()}
    assert shapes["layers.1.layers.0.weight"] == (128, 2, 3, 3)
    assert shapes["layers.3.layers.2.layers.1.layers.2.weight"] == (128,)
    assert shapes["layers.6.layers.2.layers.1.running_mean"] == (256,)
    assert shapes["features.layers.0.layers.0.weight"] == (512, 1, 2, 3)
    assert shapes["features.layers.2.weight"] == (DIM, 512)


def test_a_dense_map_of_all_places_is_transposed_by_places():
    variables = filled(abstract_variables("insightface_iresnet"))
    kernel = variables["params"]["backbone"]["fc"]["kernel"]
    weight = export_state_dict(variables, "insightface_iresnet")["fc.weight"]
    activations = np.random.default_rng(1).normal(size=(2, 3, 512)).astype(np.float32)
    ours = np.einsum("hwc,hwco->o", activations, kernel)
    np.testing.assert_allclose(weight @ activations.transpose(2, 0, 1).reshape(-1), ours, rtol=1e-4, atol=1e-3)


def test_an_iresnets_frozen_scale_must_be_one():
    abstract = abstract_variables("insightface_iresnet", "ohe")
    state = export_state_dict(filled(abstract), "insightface_iresnet", "ohe")
    state["bn1.num_batches_tracked"] = np.asarray(7)
    without = {name: array for name, array in state.items() if name != "features.weight"}
    import_state_dict(without, abstract)
    state["features.weight"] = np.full(DIM, 1.5, np.float32)
    with pytest.raises(ValueError, match="features.weight is not all ones"):
        import_state_dict(state, abstract)
    # Whoever takes only the classifier does not care.
    head = import_state_dict(state, filled(abstract, seed=1), parts=("head",))["params"]["head"]
    np.testing.assert_array_equal(head["kernel"], state["weight"])


def test_pictures_of_another_size_and_unknown_names_are_named():
    abstract = abstract_variables("insightface_iresnet")
    state = export_state_dict(filled(abstract), "insightface_iresnet")
    state["fc.weight"] = state["fc.weight"][:, :512]
    state["layer9.0.bn1.weight"] = state["bn1.weight"]
    with pytest.raises(ValueError, match="does not fit") as error:
        import_state_dict(state, abstract)
    assert "1 unexpected: layer9.0.bn1.weight" in str(error.value)
    assert "1 of another shape: fc.weight (6, 512) for params/backbone/fc/kernel (2, 3, 512, 6)" in str(error.value)
    with pytest.raises(ValueError, match="lacks 2 names: params/head/"):
        export_state_dict(filled(abstract_variables("insightface_iresnet", "mhp")), "insightface_iresnet", "mhp")


def test_a_table_of_classes_fills_a_sampled_heads_blocks():
    """PartialFC's rows become blocks of consecutive classes; the last is filled up with zeros."""
    abstract = abstract_variables("insightface_mobilefacenet", "mhs")
    table = np.random.default_rng(0).normal(size=(11, DIM)).astype(np.float32)
    state = export_state_dict(filled(abstract), "insightface_mobilefacenet") | {"weight": table}
    weight = import_state_dict(state, abstract, label_space=SPACE)["params"]["head"]["weight"]
    np.testing.assert_array_equal(weight.reshape(12, DIM), np.pad(table, [(0, 1), (0, 0)]))
    with pytest.raises(ValueError, match=r"weight \(12, 6\) for params/head/weight \(3, 4, 6\)"):
        import_state_dict(state | {"weight": np.zeros((12, DIM))}, abstract, label_space=SPACE)
    with pytest.raises(ValueError, match="label_space is needed"):
        import_state_dict(state, abstract)


@pytest.mark.parametrize(("classes", "shards"), [(11, 1), (11, 2), (11, 3), (11, 4), (11, 11), (12, 4)])
def test_pieces_are_those_of_partial_fc_and_merge_again(classes, shards):
    table = np.arange(classes * 2, dtype=np.float32).reshape(classes, 2)
    pieces = face_heads.split_table(table, shards)
    start = 0
    for rank, piece in enumerate(pieces):  # PartialFC's own arithmetic
        num_local = classes // shards + int(rank < classes % shards)
        class_start = classes // shards * rank + min(rank, classes % shards)
        assert class_start == start
        np.testing.assert_array_equal(piece, table[class_start : class_start + num_local])
        start += num_local
    assert start == classes
    np.testing.assert_array_equal(face_heads.merge_shards(pieces), table)


def test_pieces_of_no_run_are_named():
    ones = lambda *shape: np.ones(shape, np.float32)
    for pieces in ([ones(3, 2), ones(5, 2)], [ones(3, 2), ones(4, 2)], [ones(4, 2), ones(4, 3)]):
        with pytest.raises(ValueError, match=r"the file of GPU [01] has a weight of shape"):
            face_heads.merge_shards(pieces)
    with pytest.raises(ValueError, match="num_shards is 0; it must be in 1 .. 3"):
        face_heads.split_table(ones(3, 2), 0)
    with pytest.raises(ValueError, match="num_shards is 4; it must be in 1 .. 3"):
        face_heads.split_table(ones(3, 2), 4)
    with pytest.raises(ValueError, match=r"a table of shape \(2, 3, 4\) is not split"):
        face_heads.split_table(ones(2, 3, 4), 2)


@pytest.mark.torch
def test_a_folder_of_a_run_is_read(tmp_path):
    import torch

    abstract = abstract_variables("insightface_mobilefacenet", "ohe")
    variables = filled(abstract)
    state = export_state_dict(variables, "insightface_mobilefacenet", "ohe")
    table = state.pop("weight")
    assert not face_heads.is_face_folder(tmp_path)
    with pytest.raises(ValueError, match="has no backbone.pth"):
        face_heads.read_face_folder(tmp_path)
    torch.save({f"module.{name}": torch.from_numpy(array) for name, array in state.items()}, tmp_path / "backbone.pth")
    assert face_heads.is_face_folder(tmp_path)
    assert set(face_heads.read_face_folder(tmp_path)) == set(state)
    for rank, shard in enumerate(face_heads.split_table(table, 11)):  # 11: the names' order is not the ranks'
        # With all classes sampled, the older PartialFC stores its rows as what a step trains.
        names = {"weight_activated": torch.from_numpy(shard)}
        if rank % 2:  # else beside an empty one
            names = {"weight": torch.from_numpy(shard), "weight_activated": torch.empty(0)}
        torch.save(names, tmp_path / f"softmax_fc_gpu_{rank}.pt")
    back = import_state_dict(face_heads.read_face_folder(tmp_path), abstract)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    (tmp_path / "softmax_fc_gpu_4.pt").unlink()
    with pytest.raises(ValueError, match=r"has softmax_fc_gpu_10\.pt but lacks softmax_fc_gpu_4\.pt"):
        face_heads.read_face_folder(tmp_path)
    torch.save({"bias": torch.zeros(3)}, tmp_path / "softmax_fc_gpu_4.pt")
    with pytest.raises(ValueError, match=r"softmax_fc_gpu_4\.pt has no weight of 2 or 3 axes; its names are bias"):
        face_heads.read_face_folder(tmp_path)


@pytest.mark.torch
def test_checkpoints_of_the_newer_trainer_are_read(tmp_path):
    """Each GPU's file has the backbone, that GPU's rows, and what resuming needs."""
    import torch

    abstract = abstract_variables("insightface_mobilefacenet", "ohe")
    variables = filled(abstract)
    state = {
        name: torch.from_numpy(array)
        for name, array in export_state_dict(variables, "insightface_mobilefacenet", "ohe").items()
    }
    table = state.pop("weight")
    module = {f"module.{name}": tensor for name, tensor in state.items()}
    for rank, shard in enumerate(face_heads.split_table(table.numpy(), 2)):
        whole = {
            "epoch": 3,
            "state_dict_backbone": module,
            "state_dict_softmax_fc": {"weight": torch.from_numpy(shard)},
        }
        torch.save(
            {**whole, "state_optimizer": {"state": {}, "param_groups": []}}, tmp_path / f"checkpoint_gpu_{rank}.pt"
        )
    for _ in range(2):
        assert face_heads.is_face_folder(tmp_path)
        back = import_state_dict(face_heads.read_face_folder(tmp_path), abstract)
        jax.tree.map(np.testing.assert_array_equal, back, variables)
        torch.save(state, tmp_path / "model.pt")  # the same with the backbone apart
    (tmp_path / "checkpoint_gpu_0.pt").unlink()
    with pytest.raises(ValueError, match=r"has checkpoint_gpu_1\.pt but lacks checkpoint_gpu_0\.pt"):
        face_heads.read_face_folder(tmp_path)


@pytest.mark.torch
def test_of_unsynchronised_sampled_heads_the_first_is_taken(tmp_path, caplog):
    import torch

    heads = torch.randn(2, 3, 4, DIM)
    for rank in range(2):
        torch.save({"weight": heads[rank]}, tmp_path / f"softmax_fc_gpu_{rank}.pt")
    np.testing.assert_array_equal(face_heads.read_head(tmp_path), heads[0])
    assert "2 sampled heads, one per GPU: softmax_fc_gpu_0.pt is used" in caplog.text


@pytest.mark.torch
def test_the_command_changes_the_number_of_pieces(tmp_path, capsys):
    import torch

    table = torch.randn(11, DIM)
    torch.save({"weight": table}, tmp_path / "head.pt")
    run = lambda *arguments: shards.main(["shards", *map(str, arguments)])
    assert run("split", tmp_path / "head.pt", tmp_path / "eight", "--num_shards=8") == 0
    assert run("split", tmp_path / "eight", tmp_path / "three", "--num_shards=3") == 0
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == [f"softmax_fc_gpu_{r}.pt" for r in range(3)]
    assert run("merge", tmp_path / "three", tmp_path / "merged.pt") == 0
    assert "merged.pt: 11 x 6" in capsys.readouterr().out
    np.testing.assert_array_equal(face_heads.read_head(tmp_path / "merged.pt"), table)
    assert run("split", tmp_path / "head.pt", tmp_path / "three", "--num_shards=2") == 2
    assert "three already has softmax_fc_gpu_*.pt" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("merge", tmp_path / "empty", tmp_path / "x.pt") == 2
    assert "empty has neither softmax_fc_gpu_0.pt nor checkpoint_gpu_0.pt" in capsys.readouterr().err
