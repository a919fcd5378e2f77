"""ViT and ConvNeXt against transformers, timm and torchvision: features and all gradients in float32, and state dicts
both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.flatten_util import ravel_pytree

from mhe_jax.interop.torch import export_state_dict, import_state_dict
from mhe_jax.models.images.convnext import ConvNeXt
from mhe_jax.models.images.vit import ViT
from tests.parity import transformers_pictures
from tests.torchvision_python import import_reference

pytestmark = pytest.mark.torch

TINY_VIT, TINY_CONVNEXT = (
    ViT(patch_size=8, width=24, depth=3, num_heads=3),
    ConvNeXt(depths=(1, 2, 1, 1), widths=(8, 12, 16, 20)),
)


def timm_vit(size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, **kwargs):
    vit = import_reference("timm.models.vision_transformer").VisionTransformer
    return vit(size, patch_size, embed_dim=embed_dim, depth=depth, num_heads=num_heads, num_classes=7, **kwargs)


def torchvision_vit():
    vit = import_reference("torchvision.models.vision_transformer").VisionTransformer
    return vit(32, 8, num_layers=3, num_heads=3, hidden_dim=24, mlp_dim=96, num_classes=7)


def timm_convnext():
    timm = import_reference("timm.models.convnext")
    return timm.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 12, 16, 20), num_classes=7)


def torchvision_convnext():
    module = import_reference("torchvision.models.convnext")
    blocks = [(8, 12, 1), (12, 16, 2), (16, 20, 1), (20, None, 1)]
    return module.ConvNeXt([module.CNBlockConfig(*block) for block in blocks], num_classes=7)


def named(name, **kwargs):
    """A model of timm by its name."""
    return import_reference("timm").create_model(name, num_classes=7, **kwargs)


TINY = {
    "transformers_vit": (transformers_pictures.vit, TINY_VIT, 32),
    "transformers_convnext": (transformers_pictures.convnext, TINY_CONVNEXT, 64),
    "timm_vit": (timm_vit, TINY_VIT, 32),
    "torchvision_vit": (torchvision_vit, TINY_VIT, 32),
    "timm_convnext": (timm_convnext, TINY_CONVNEXT, 64),
    "torchvision_convnext": (torchvision_convnext, TINY_CONVNEXT, 64),
}
WHOLE = {
    "vit_s16": (lambda: named("vit_small_patch16_224", img_size=64), ViT(), 64),
    "vit_b16": (lambda: named("vit_base_patch16_224", img_size=32), ViT(width=768, num_heads=12), 32),
    "convnext_t": (lambda: named("convnext_tiny"), ConvNeXt(), 64),
}


def randomised(make):
    """The model with random values where it begins with zeros or nearly so."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.endswith(
                ("layer_scale", "token", "pos_embed", "pos_embedding", "position_embeddings")
            ):
                continue
            base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(base + 0.3 * torch.randn_like(parameter))
    return model.eval()


def abstract(backbone, size):
    variables = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False))
    head = {"kernel": jax.ShapeDtypeStruct((7, backbone.features_dim), jnp.float32)}
    head["bias"] = jax.ShapeDtypeStruct((7,), jnp.float32)
    return {"params": {"backbone": variables["params"], "head": head}, "batch_stats": {}}


def state_of(model, gradients=False):
    values = model.state_dict() if not gradients else {name: p.grad for name, p in model.named_parameters()}
    state = {name: tensor.detach().numpy().copy() for name, tensor in values.items()}
    return transformers_pictures.renamed(state) if isinstance(model, transformers_pictures.Logits) else state


@pytest.mark.parametrize(
    ("make", "backbone", "size"),
    [*TINY.values(), *(pytest.param(*case, marks=pytest.mark.slow) for case in WHOLE.values())],
    ids=(TINY | WHOLE).keys(),
)
def test_logits_and_gradients(make, backbone, size):
    """Of the whole sizes half a minute each, which their gradients take to compile."""
    model = randomised(make)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, size, size, 3), dtype=np.float32)
    cotangent = rng.standard_normal((2, 7), dtype=np.float32)
    theirs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    (theirs * torch.from_numpy(cotangent)).sum().backward()

    variables = import_state_dict(state_of(model), abstract(backbone, size))

    def logits(params):
        features = backbone.apply({"params": params["backbone"]}, images, train=False)
        return features @ params["head"]["kernel"].T + params["head"]["bias"][None, :]

    with jax.default_matmul_precision("highest"):
        ours, vjp = jax.vjp(jax.jit(logits), variables["params"])
        (grads,) = vjp(cotangent)
    scale = theirs.detach().abs().max().item()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-5 * scale)
    wanted = import_state_dict(state_of(model, gradients=True), abstract(backbone, size))["params"]

    def check(path, a, b):
        error, norm = np.linalg.norm(np.asarray(a) - b), np.linalg.norm(b)
        # What a bias of the keys adds to all scores of a query is no matter to the softmax: its gradient is noise.
        assert error <= 1e-5 * norm + 1e-7 * total, f"{jax.tree_util.keystr(path)}: {error / norm:.1e}"

    total = float(jnp.linalg.norm(ravel_pytree(wanted)[0]))
    jax.tree_util.tree_map_with_path(check, grads, wanted)


@pytest.mark.parametrize("size", WHOLE)
def test_the_whole_sizes_have_the_names_of_timm(size):
    make, backbone, pixels = WHOLE[size]
    variables = import_state_dict(state_of(make()), abstract(backbone, pixels))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == sum(p.numel() for p in make().parameters())


@pytest.mark.parametrize("layout", TINY)
def test_state_dicts_there_and_back(layout):
    make, backbone, size = TINY[layout]
    model = randomised(make)
    state = state_of(model)
    variables = import_state_dict(state, abstract(backbone, size))
    names = layout.replace("transformers", "timm")
    back = export_state_dict(variables, names, "ohe")
    assert set(back) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    if names == layout:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})
    assert not [name for name in export_state_dict(variables, names) if name.startswith(("head.fc", "heads"))]


def test_names_of_the_files_that_torchvision_offers():
    """Their perceptrons have older names, which torchvision changes as it loads them."""
    state = state_of(randomised(torchvision_vit))
    older = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): a for name, a in state.items()}
    assert set(older) != set(state)
    want, found = (import_state_dict(names, abstract(TINY_VIT, 32)) for names in (state, older))
    jax.tree.map(np.testing.assert_array_equal, found, want)


@pytest.mark.parametrize("size", [16, 40, 56])
def test_positions_of_another_resolution_are_those_that_timm_interpolates(size):
    theirs = timm_vit()
    with torch.no_grad():
        theirs.pos_embed.normal_()
    state = state_of(theirs)
    found = import_state_dict(state, abstract(TINY_VIT, size))["params"]["backbone"]["positions"]
    resample = import_reference("timm.layers").resample_abs_pos_embed
    wanted = resample(theirs.pos_embed, [size // 8] * 2).detach().numpy()
    assert found.shape == wanted.shape == (1, 1 + (size // 8) ** 2, 24)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_positions_that_are_no_square_are_named():
    state = state_of(transformers_pictures.vit()) | {"pos_embed": np.zeros((1, 1 + 15, 24), np.float32)}
    with pytest.raises(ValueError, match="positions of 16 tokens and the model of 17: only those of a class token"):
        import_state_dict(state, abstract(TINY_VIT, 32))


def test_a_checkpoint_of_another_size_is_named():
    state = state_of(transformers_pictures.vit(width=48))
    with pytest.raises(ValueError, match=r"of another shape: .*cls_token \(1, 1, 48\) for params/backbone/class_token"):
        import_state_dict(state, abstract(TINY_VIT, 32))
    deeper = state_of(transformers_pictures.vit(depth=4))
    with pytest.raises(ValueError, match=r"12 unexpected: blocks.3\."):
        import_state_dict(deeper, abstract(TINY_VIT, 32))
