"""ResNets against PyTorch: features, all gradients, and BatchNorm's statistics over training steps.

A random ResNet in training is ill-conditioned: float32 noise flips ReLUs near zero, so that PyTorch's own float32
gradients are off from its float64 ones by 1e-3 (18 layers) to 1e-2 (50 layers), and by everything after a step. The
mathematics is therefore compared in float64, to 1e-6, with batches large enough to keep BatchNorm well-conditioned;
float32 is compared where it is well-conditioned, in evaluation.
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mhe_jax.interop.torch import import_state_dict
from mhe_jax.models.images.resnet import ResNet
from mhe_jax.models.images.resnet_cifar import CifarResNet
from tests.parity import torch_models

pytestmark = pytest.mark.torch

LEARNING_RATE, STEPS = 1e-3, 3


def torch_model(layout, depth):
    torch.manual_seed(0)
    model = torch_models.Model(layout, depth)
    for module in model.modules():  # running statistics and affine parameters that are not the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1)
    return model


def as_variables(model, abstract, gradients=False):
    """The torch model's parameters, or their gradients, and statistics in our tree, in their own precision."""
    state = {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}
    if gradients:
        state |= {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}
    dtype = state["layer4.1.bn1.weight" if "conv1.weight" in state else "net.1.weight"].dtype
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), abstract)
    return import_state_dict(state, like, parts=("backbone",))


def abstract_variables(backbone):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), images)
    return {"params": {"backbone": variables["params"]}, "batch_stats": variables["batch_stats"]}


def apply(backbone, variables, images, train):
    flat = {"params": variables["params"]["backbone"], "batch_stats": variables["batch_stats"]}
    return backbone.apply(flat, images, train=train, mutable=["batch_stats"])


def nchw(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_close(ours, theirs, tolerance):
    """Every tensor within `tolerance` of the other, relative to its norm."""

    def check(path, a, b):
        error = np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b))
        assert error <= tolerance, f"{jax.tree_util.keystr(path)}: relative error {error:.2e}"

    jax.tree_util.tree_map_with_path(check, ours, theirs)


@pytest.mark.parametrize(
    ("layout", "backbone", "size"),
    [
        ("reference_cifar", CifarResNet(18), 32),
        ("torchvision", ResNet(50), 64),
        ("reference_imagenet", ResNet(18), 65),
    ],
)
def test_features_in_evaluation(layout, backbone, size):
    model = torch_model(layout, backbone.depth).eval()
    images = np.random.default_rng(0).standard_normal((4, size, size, 3), dtype=np.float32)
    variables = as_variables(model, abstract_variables(backbone))
    with torch.no_grad():
        theirs = model(nchw(images)).numpy()
    ours, _ = jax.jit(lambda v, x: apply(backbone, v, x, False))(variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("layout", "backbone", "shape", "replicas"),
    [
        ("reference_cifar", CifarResNet(18, dtype="float64"), (8, 8, 8, 3), 1),
        ("reference_cifar", CifarResNet(18, bn_groups=2, dtype="float64"), (8, 8, 8, 3), 2),
        ("torchvision", ResNet(50, dtype="float64"), (8, 32, 32, 3), 1),
    ],
    ids=["cifar18", "cifar18-2-replicas", "imagenet50"],
)
def test_gradients_and_statistics_over_three_steps(layout, backbone, shape, replicas):
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape)
    weights = rng.standard_normal((shape[0], backbone.features_dim)) / shape[0]
    model = torch_model(layout, backbone.depth).double().train()

    def loss(params, batch_stats):
        features, updated = apply(backbone, {"params": params, "batch_stats": batch_stats}, images, True)
        return (features * weights).sum(), updated["batch_stats"]

    with jax.enable_x64(True):
        abstract = abstract_variables(backbone)
        variables = as_variables(model, abstract)
        params, batch_stats = variables["params"], variables["batch_stats"]
        grad = jax.jit(jax.grad(loss, has_aux=True))
        for _ in range(STEPS):
            gradients, batch_stats = grad(params, batch_stats)
            params = jax.tree.map(lambda value, gradient: value - LEARNING_RATE * gradient, params, gradients)
            torch_gradients(model, images, weights, replicas)
            theirs = as_variables(model, abstract, gradients=True)
            assert_close(gradients, theirs["params"], 1e-6)
            assert_close(batch_stats, theirs["batch_stats"], 1e-6)
            torch.optim.SGD(model.parameters(), LEARNING_RATE).step()


def torch_gradients(model, images, weights, replicas):
    """Gradients as DataParallel sums them: each replica has a part of the batch, and the first keeps the statistics."""
    model.zero_grad()
    start = copy.deepcopy(model)
    for part in range(replicas):
        replica = model if part == 0 else copy.deepcopy(start)
        x, w = nchw(np.array_split(images, replicas)[part]), torch.from_numpy(np.array_split(weights, replicas)[part])
        (replica(x) * w).sum().backward()
        if part > 0:
            for total, own in zip(model.parameters(), replica.parameters(), strict=True):
                total.grad += own.grad
