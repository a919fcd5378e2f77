"""The backbones for faces against PyTorch: embeddings, all gradients, and BatchNorm's statistics over training steps.

As in test_torch_backbones, training steps of convolutional networks are compared in float64, because PyTorch's own
float32 cannot carry them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mhe_jax.interop.torch import import_state_dict
from mhe_jax.models.faces.iresnet import STAGES, IResNet
from mhe_jax.models.faces.mobilefacenet import MobileFaceNet
from mhe_jax.models.faces.vit import FaceViT
from tests.parity import torch_faces

pytestmark = pytest.mark.torch

LEARNING_RATE, STEPS = 1e-3, 3
# Batch, height, width, channels: oblong, so that the order of places matters.
SHAPE = (4, 32, 48, 3)
# XLA's CPU convolutions of float64 are slow, above all on 2x2 places: only stages of few channels see these.
SMALL = (8, 8, 8, 3)


def iresnet(depth):
    return lambda size: torch_faces.IResNet(STAGES[depth], size)


def vit(size):
    return torch_faces.FaceViT(size, width=32, depth=3, heads=4)


OUR_VIT = functools.partial(FaceViT, width=32, depth=3, num_heads=4, mask_ratio=0.0, drop_path=0.0)


def torch_model(build, size):
    torch.manual_seed(0)
    model = build(size)
    with torch.no_grad():  # running statistics and parameters that do not hide behind 0 and 1
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                if module.weight.requires_grad:
                    module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
                module.running_mean.normal_(0, 0.1)
            if isinstance(module, torch.nn.PReLU):
                module.weight.uniform_(0.1, 0.4)
    return model


def abstract_variables(backbone, shape, dtype):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), images)
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), variables)
    return {"params": {"backbone": variables["params"]}, "batch_stats": variables["batch_stats"]}


def as_variables(model, like, gradients=False):
    """The torch model's parameters, or their gradients, and statistics in our tree."""
    state = {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}
    if gradients:
        state |= {
            name: np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy().copy()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
    return import_state_dict(state, like, parts=("backbone",))


def apply(backbone, variables, images, train):
    flat = {"params": variables["params"]["backbone"], "batch_stats": variables["batch_stats"]}
    return backbone.apply(flat, images, train=train, mutable=["batch_stats"])


def nchw(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_close(ours, theirs, tolerance, rounding=0.0):
    """Every tensor within `tolerance` of the other, relative to its norm, or within `rounding` of the largest norm.

    The latter is for a shift in front of a BatchNorm, whose gradient is 0: both compute rounding errors.
    """
    largest = max(np.linalg.norm(np.asarray(leaf)) for leaf in jax.tree.leaves(theirs))

    def check(path, a, b):
        error, norm = np.linalg.norm(np.asarray(a) - np.asarray(b)), np.linalg.norm(np.asarray(b))
        assert error <= max(tolerance * norm, rounding * largest), (
            f"{jax.tree_util.keystr(path)}: {error:.2e} of {norm}"
        )

    jax.tree_util.tree_map_with_path(check, ours, theirs)


@pytest.mark.parametrize(
    ("build", "backbone"),
    [
        (iresnet(18), IResNet(18)),
        (iresnet(50), IResNet(50)),
        (torch_faces.MobileFaceNet, MobileFaceNet()),
        (functools.partial(torch_faces.MobileFaceNet, scale=1), MobileFaceNet(scale=1)),
        (vit, OUR_VIT()),
    ],
    ids=["iresnet18", "iresnet50", "mobilefacenet", "mobilefacenet-scale-1", "vit"],
)
def test_embeddings_in_evaluation(build, backbone):
    model = torch_model(build, SHAPE[1:3]).eval()
    images = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    variables = as_variables(model, abstract_variables(backbone, SHAPE, jnp.float32))
    with torch.no_grad():
        theirs = model(nchw(images)).numpy()
    ours, _ = jax.jit(lambda v, x: apply(backbone, v, x, False))(variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("build", "backbone", "shape"),
    [
        (iresnet(18), IResNet(18, dtype="float64"), SMALL),
        (iresnet(50), IResNet(50, dtype="float64"), SMALL),
        (torch_faces.MobileFaceNet, MobileFaceNet(dtype="float64"), (6, 16, 24, 3)),
        (vit, OUR_VIT(), (12, 27, 36, 3)),  # its attention computes in float32, which carries it
    ],
    ids=["iresnet18", "iresnet50", "mobilefacenet", "vit"],
)
def test_gradients_and_statistics_over_three_steps(build, backbone, shape):
    rng = np.random.default_rng(0)
    dtype = jnp.dtype(backbone.dtype)
    images = rng.standard_normal(shape).astype(dtype)
    weights = (rng.standard_normal((shape[0], backbone.features_dim)) / shape[0]).astype(dtype)
    model = torch_model(build, shape[1:3]).to(torch.from_numpy(images).dtype).train()
    tolerance, rounding = (1e-6, 1e-12) if dtype == jnp.float64 else (1e-5, 1e-6)

    def loss(params, batch_stats):
        features, updated = apply(backbone, {"params": params, "batch_stats": batch_stats}, images, True)
        return (features * weights).sum(), updated["batch_stats"]

    with jax.enable_x64(dtype == jnp.float64):
        like = abstract_variables(backbone, shape, dtype)
        variables = as_variables(model, like)
        params, batch_stats = variables["params"], variables["batch_stats"]
        grad = jax.jit(jax.grad(loss, has_aux=True))
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
        for _ in range(STEPS):
            gradients, batch_stats = grad(params, batch_stats)
            params = jax.tree.map(lambda value, gradient: value - LEARNING_RATE * gradient, params, gradients)
            optimizer.zero_grad()
            (model(nchw(images)) * torch.from_numpy(weights)).sum().backward()
            theirs = as_variables(model, like, gradients=True)
            assert_close(gradients, theirs["params"], tolerance, rounding)
            assert_close(batch_stats, theirs["batch_stats"], tolerance)
            optimizer.step()
