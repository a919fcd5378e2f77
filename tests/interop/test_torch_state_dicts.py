"""State dicts in and out, by layout and head; what is wrong with a file or a state dict is named."""

import builtins
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from mhe_jax.heads import HEADS
from mhe_jax.interop import state_files
from mhe_jax.interop.torch import export_state_dict, import_state_dict, read_checkpoint
from mhe_jax.labels import LabelSpace
from mhe_jax.models.images.resnet import ResNet
from mhe_jax.models.images.resnet_cifar import CifarResNet
from mhe_jax.ops.storage import store, widen

DEPTH, DIM = 18, 512
BACKBONES = {"reference_cifar": CifarResNet, "reference_imagenet": ResNet, "torchvision": ResNet}
SPACES = {
    "ohe": LabelSpace(11, (11,)),
    "mhp": LabelSpace(11, (3, 4)),
    "mhc": LabelSpace(11, (3, 4)),
    "mhs": LabelSpace(11, (3, 4)),
}


def abstract_variables(layout, head, space):
    backbone = BACKBONES[layout](DEPTH)
    fields = {"hidden_dim": 5} if head == "mhc" else {}
    classifier = HEADS[head](label_space=space, features_dim=DIM, **fields)

    def init():
        key = jax.random.key(0)
        variables = backbone.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
        head_params = classifier.init(key, jnp.zeros((1, DIM)), 1, method="topk")["params"]
        params = {"backbone": variables["params"], "head": head_params}
        return {"params": params, "batch_stats": variables["batch_stats"]}

    return nn.unbox(jax.eval_shape(init))


def filled(abstract, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract)


@pytest.fixture(scope="module")
def product():
    """Variables of a CIFAR model with a product head, and its state dict."""
    abstract = abstract_variables("reference_cifar", "mhp", SPACES["mhp"])
    return abstract, export_state_dict(filled(abstract), "reference_cifar", "mhp")


@pytest.mark.parametrize(
    ("layout", "head", "space"),
    [
        ("reference_cifar", "mhp", SPACES["mhp"]),
        ("reference_cifar", "mhc", SPACES["mhc"]),
        ("reference_cifar", "mhc", LabelSpace(23, (2, 3, 4))),
        ("reference_cifar", "mhc", LabelSpace(23, (2, 3, 2, 2))),
        ("reference_imagenet", "mhs", SPACES["mhs"]),
        ("reference_imagenet", "mhc", SPACES["mhc"]),
        ("torchvision", "ohe", SPACES["ohe"]),
    ],
)
def test_a_round_trip_is_exact(layout, head, space):
    abstract = abstract_variables(layout, head, space)
    variables = filled(abstract)
    state = export_state_dict(variables, layout, head)
    assert len(state) == len(jax.tree.leaves(variables))
    back = import_state_dict(state, abstract)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize("storage", ["bfloat16", "float8"])
def test_a_narrow_table_goes_out_wide_and_comes_in_narrow(storage):
    abstract = abstract_variables("torchvision", "ohe", SPACES["ohe"])
    variables = filled(abstract)
    kernel = store(jnp.asarray(variables["params"]["head"]["kernel"], jnp.float32), storage)
    variables["params"]["head"]["kernel"] = kernel
    state = export_state_dict(variables, "torchvision", "ohe")
    assert {array.dtype.name for array in state.values()} == {"float32"}
    np.testing.assert_array_equal(state["fc.weight"], widen(kernel)[: len(state["fc.weight"])].astype(jnp.float32))
    back = import_state_dict(state, variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_published_names_are_used(product):
    _, state = product
    shapes = {name: array.shape for name, array in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["layer2.0.shortcut.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer2.0.shortcut.1.running_var"] == (128,)
    assert shapes["classifier.weight"] == (7, DIM)
    sequential = export_state_dict(
        filled(abstract_variables("reference_imagenet", "mhc", SPACES["mhc"])), "reference_imagenet", "mhc"
    )
    assert {"net.0.weight", "net.1.running_mean", "net.7.1.conv2.weight", "net.5.0.downsample.1.bias"} <= set(
        sequential
    )
    assert sequential["embed.weight"].shape == (12, 5)


@pytest.mark.parametrize("head", ["ohe", "mhc", "mhs"])
def test_padding_rows_come_in_as_zeros_and_stay_out_of_an_export(head):
    space = LabelSpace(23, (2, 3, 4)) if head == "mhc" else SPACES[head]
    layout = "torchvision" if head == "ohe" else "reference_cifar"
    plain = filled(abstract_variables(layout, head, space))
    tables = ("kernel", "bias", "weight", "table_1", "table_2")

    def pad(path, leaf):
        padded = path[0] in tables
        return np.pad(leaf, [(0, -len(leaf) % 8)] + [(0, 0)] * (leaf.ndim - 1)) if padded else leaf

    head_params = traverse_util.path_aware_map(pad, plain["params"]["head"])
    padded = {**plain, "params": {**plain["params"], "head": head_params}}
    state = export_state_dict(plain, layout, head)
    jax.tree.map(np.testing.assert_array_equal, import_state_dict(state, padded, label_space=space), padded)
    jax.tree.map(np.testing.assert_array_equal, export_state_dict(padded, layout, head, label_space=space), state)
    with pytest.raises(ValueError, match="of another shape"):
        import_state_dict(state, padded)


def test_a_backbone_is_imported_into_a_model_with_another_head():
    state = export_state_dict(filled(abstract_variables("torchvision", "ohe", SPACES["ohe"])), "torchvision", "ohe")
    variables = filled(abstract_variables("torchvision", "mhp", SPACES["mhp"]), seed=1)
    with pytest.raises(ValueError, match=r"2 of another shape: fc\.bias"):
        import_state_dict(state, variables)
    result = import_state_dict(state, variables, parts=("backbone",))
    jax.tree.map(np.testing.assert_array_equal, result["params"]["head"], variables["params"]["head"])
    np.testing.assert_array_equal(
        result["params"]["backbone"]["conv1"]["kernel"], state["conv1.weight"].transpose(2, 3, 1, 0)
    )
    assert set(export_state_dict(result, "torchvision")) == {name for name in state if not name.startswith("fc.")}


def test_everything_that_does_not_fit_is_listed(product):
    abstract, state = product
    wrong = dict(state)
    wrong["bn1.num_batches_tracked"] = np.asarray(7)
    wrong["conv1.weight"] = np.zeros((64, 147), np.float32)
    del wrong["layer1.0.conv1.weight"]
    wrong["layer1.9.conv1.weight"] = state["layer1.0.conv1.weight"]
    wrong["scheduler"] = np.zeros(3, np.float32)
    wrong["classifier.bias"] = np.zeros(6, np.float32)
    with pytest.raises(ValueError, match="does not fit") as error:
        import_state_dict(wrong, abstract)
    message = str(error.value)
    assert "1 missing: params/backbone/layer1_0/conv1/kernel" in message
    assert "2 unexpected: layer1.9.conv1.weight, scheduler" in message
    assert "2 of another shape" in message
    assert "conv1.weight (64, 147) for params/backbone/conv1/kernel (" in message
    assert "classifier.bias (6,) for params/head/bias (7,)" in message


def test_a_number_in_place_of_rows_is_listed():
    space = SPACES["ohe"]
    variables = {"params": {"backbone": {}, "head": {"kernel": np.zeros((6, 4)), "bias": np.zeros(6)}}}
    state = {"fc.weight": np.zeros((6, 4), np.float32), "fc.bias": np.float32(0)}
    with pytest.raises(ValueError, match=r"1 of another shape: fc.bias \(\) for params/head/bias \(6,\)"):
        import_state_dict(state, variables, parts=("head",), label_space=space)


def test_unknown_layouts_heads_and_parts_are_named(product):
    abstract, state = product
    with pytest.raises(ValueError, match="none of the layouts"):
        import_state_dict({"encoder.weight": np.zeros(3)}, abstract)
    with pytest.raises(ValueError, match="parts is"):
        import_state_dict(state, abstract, parts=("neck",))
    with pytest.raises(ValueError, match="layout is 'keras'"):
        export_state_dict(filled(abstract), "keras")
    with pytest.raises(ValueError, match="head is 'fc'"):
        export_state_dict(filled(abstract), "torchvision", "fc")
    with pytest.raises(ValueError, match="lacks 2 names: params/head/"):
        export_state_dict(filled(abstract), "reference_cifar", "mhs")


def test_safetensors_are_read_without_torch(tmp_path, product, monkeypatch):
    _, state = product
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(state, path)
    monkeypatch.setattr(builtins, "__import__", _without_torch(builtins.__import__))
    jax.tree.map(np.testing.assert_array_equal, read_checkpoint(path), state)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"model\.safetensors is not a readable safetensors file"):
        read_checkpoint(path)
    with pytest.raises(ImportError, match=r"model\.pth needs PyTorch"):
        read_checkpoint(tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"must be a \.safetensors file, one of PyTorch's"):
        read_checkpoint(tmp_path / "model.bin")


def _without_torch(real_import):
    def fake(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("no torch")
        return real_import(name, *args, **kwargs)

    return fake


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "wrapper", "prefix"),
    [
        ("model.pth", None, "module."),
        ("model.pth", "state_dict", "module."),
        ("model.pth.tar", "state_dict", "module._orig_mod."),
        ("ckpt.t7", "net", "_orig_mod.module."),
        ("model.pt", "model", "_orig_mod."),
        ("epoch=3.ckpt", "model_state_dict", ""),
    ],
)
def test_what_scripts_wrap_around_is_taken_off(tmp_path, name, wrapper, prefix):
    import torch

    state = {f"{prefix}a.weight": torch.arange(6.0).reshape(2, 3), f"a.{prefix}steps": torch.tensor(3)}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 4, "best": 0.5}, tmp_path / name)
    read = read_checkpoint(tmp_path / name)
    assert set(read) == {"a.weight", "a.steps"}
    np.testing.assert_array_equal(read["a.weight"], np.arange(6.0).reshape(2, 3))


@pytest.mark.torch
def test_half_precision_becomes_float32(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensor = torch.arange(4.0).bfloat16()
    torch.save({"a": tensor}, tmp_path / "model.pt")
    save_file({"a": tensor}, tmp_path / "model.safetensors")
    for name in ("model.pt", "model.safetensors"):
        array = read_checkpoint(tmp_path / name)["a"]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.arange(4))


@pytest.mark.torch
def test_files_that_are_no_state_dict_are_named(tmp_path):
    import torch

    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match=r"model\.pth pickles Python objects"):
        read_checkpoint(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="holds no state dict"):
        read_checkpoint(path)
    torch.save({"a": torch.zeros(1000)}, path)
    for broken in (path.read_bytes()[:900], b"", b"text, not a checkpoint"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"model\.pth is not a readable PyTorch file"):
            read_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch deprecates quantised tensors, but they are in people's files
def test_tensors_that_a_model_has_no_place_for_are_named(tmp_path):
    import torch

    path, good = tmp_path / "model.pth", torch.zeros(2)
    for bad, kind in (
        (torch.eye(2).to_sparse(), "is sparse"),
        (torch.zeros(2, dtype=torch.complex64), "is complex"),
        (torch.zeros(2, device="meta"), "has no values"),
        (torch.quantize_per_tensor(good, 0.1, 0, torch.qint8), "is quantised"),
        (3, "is a int"),
    ):
        torch.save({"a": good, "b": bad}, path)
        with pytest.raises(ValueError, match=rf"model\.pth: b {kind}"):
            read_checkpoint(path)
    torch.save({"module.a": good, "a": good}, path)
    with pytest.raises(ValueError, match=r"model\.pth holds a twice, as module\.a and as a"):
        read_checkpoint(path)
    safetensors.numpy.save_file({"a": np.zeros(2, np.complex64)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: a is complex"):
        read_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_short_floats_are_read_before_anything_else_taught_them_to_numpy(tmp_path, dtype):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.arange(4.0).to(getattr(torch, dtype))}, tmp_path / "model.safetensors")
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('state_files', {state_files.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"array = module.read_checkpoint({str(tmp_path / 'model.safetensors')!r})['a']\n"
        "assert 'jax' not in sys.modules\n"
        "print(array.dtype, array.tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "float32 [0.0, 1.0, 2.0, 3.0]\n", done.stderr


def test_a_lightning_modules_names_are_read(product):
    abstract, state = product
    back = import_state_dict({f"model.{name}": array for name, array in state.items()}, abstract)
    expected = import_state_dict(state, abstract)
    jax.tree.map(np.testing.assert_array_equal, back, expected)
    beside = {"criterion.weight": np.ones(3, np.float32), "metric.count": np.float32(2)}
    back = import_state_dict({**beside, **{f"model.{name}": array for name, array in state.items()}}, abstract)
    jax.tree.map(np.testing.assert_array_equal, back, expected)


def test_weights_that_are_not_finite_are_named(product):
    abstract, state = product
    broken = {**state, "layer1.0.conv1.weight": state["layer1.0.conv1.weight"] * np.nan}
    with pytest.raises(ValueError, match=r"1 arrays of the state dict are not finite: layer1\.0\.conv1\.weight"):
        import_state_dict(broken, abstract)


def test_another_number_of_classes_names_the_part_that_fits(product):
    _, state = product
    abstract = abstract_variables("reference_cifar", "mhp", LabelSpace(31, (5, 7)))
    with pytest.raises(ValueError, match=r"the backbone fits, and init_parts = \('backbone',\) takes it alone"):
        import_state_dict(state, abstract)
    import_state_dict(state, abstract, parts=("backbone",))
    other = {**state, "conv1.weight": state["conv1.weight"][:3]}
    with pytest.raises(ValueError, match=r"does not fit the model: 3 of another shape: conv1[^;]*$"):
        import_state_dict(other, abstract)
