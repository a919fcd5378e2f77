import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from ml_collections import ConfigDict

from mhe_jax.models.images.vit import ViT
from mhe_jax.recipes.pictures import recipe
from mhe_jax.train.optim.optimizer import _decayed, build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from tests.torchvision_python import import_reference

STEPS = 20


def quadratic(params, xp):
    """A loss with gradients of different sizes for a matrix and a vector."""
    return xp.sin(params["kernel"]).sum() + (params["kernel"] @ params["bias"]).sum() ** 2 / 7


def jax_trajectory(section, schedule, start, clip_norm=0.0):
    clip = ConfigDict({"name": "norm", "norm": clip_norm} if clip_norm else {"name": "none"})
    tx = build_optimizer(ConfigDict(section), schedule, clip).transform
    params, state = start, tx.init(start)
    for _ in range(STEPS):
        updates, state = tx.update(jax.grad(quadratic)(params, jnp), state, params)
        params = optax.apply_updates(params, updates)
    return params


def torch_trajectory(make, schedule, start, clip_norm=0.0):
    params = {name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in start.items()}
    optimizer = make(params)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(step))
        optimizer.zero_grad()
        quadratic(params, torch).backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in params.items()}


@pytest.fixture
def start():
    rng = np.random.default_rng(0)
    return {"kernel": rng.normal(size=(3, 5)).astype(np.float32), "bias": rng.normal(size=5).astype(np.float32)}


@pytest.fixture
def schedule():
    section = {"name": "cosine", "learning_rate": 0.02, "warmup_epochs": 1.0}
    return build_schedule(ConfigDict(section), STEPS, 4)


def assert_close(ours, theirs):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.torch
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_sgd_is_torchs(start, schedule, nesterov, clip_norm):
    section = {"name": "sgd", "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.05, "decay_all": True}
    theirs = torch_trajectory(
        lambda p: torch.optim.SGD(p.values(), lr=0.0, momentum=0.9, nesterov=nesterov, weight_decay=0.05),
        schedule,
        start,
        clip_norm,
    )
    assert_close(jax_trajectory(section, schedule, start, clip_norm), theirs)


@pytest.mark.torch
def test_adamw_is_torchs_with_undecayed_vectors(start, schedule):
    section = {"name": "adamw", "b1": 0.9, "b2": 0.98, "eps": 1e-6, "weight_decay": 0.1}
    groups = lambda p: [{"params": [p["kernel"]]}, {"params": [p["bias"]], "weight_decay": 0.0}]
    theirs = torch_trajectory(
        lambda p: torch.optim.AdamW(groups(p), lr=0.0, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1), schedule, start
    )
    assert_close(jax_trajectory(section, schedule, start), theirs)


@pytest.mark.parametrize("decay_all", [False, True])
def test_lamb_moves_what_is_decayed_by_a_share_of_its_length(start, schedule, decay_all):
    """Against the paper's algorithm, in float64."""
    section = {"name": "lamb", "b1": 0.9, "b2": 0.98, "eps": 1e-6, "weight_decay": 0.1, "decay_all": decay_all}
    wide = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
    expected = wide(start)
    mean, square = (jax.tree.map(np.zeros_like, expected) for _ in range(2))
    for step in range(STEPS):
        gradients = wide(jax.grad(quadratic)(jax.tree.map(jnp.float32, expected), jnp))
        for name, gradient in gradients.items():
            value = expected[name]
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.98 * square[name] + 0.02 * gradient**2
            update = mean[name] / (1 - 0.9 ** (step + 1))
            update = update / (np.sqrt(square[name] / (1 - 0.98 ** (step + 1))) + 1e-6)
            if decay_all or value.ndim > 1:
                update = update + 0.1 * value
                update = update * np.linalg.norm(value) / np.linalg.norm(update)
            expected[name] = value - float(schedule(step)) * update
    assert_close(jax_trajectory(section, schedule, start), expected)


def test_lamb_without_decay_is_adam(start, schedule):
    lamb, adam = ({"name": name, "b2": 0.98, "eps": 1e-6, "weight_decay": 0.0} for name in ("lamb", "adamw"))
    assert_close(jax_trajectory(lamb, schedule, start), jax_trajectory(adam, schedule, start))


@pytest.mark.torch
@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_lamb_is_timms(start, schedule, decay):
    timm = import_reference("timm.optim.lamb")
    section = {"name": "lamb", "b1": 0.9, "b2": 0.98, "weight_decay": decay}
    groups = lambda p: [{"params": [p["kernel"]]}, {"params": [p["bias"]], "weight_decay": 0.0}]
    make = lambda p: timm.Lamb(groups(p), lr=0.0, betas=(0.9, 0.98), weight_decay=decay, max_grad_norm=0.5)
    theirs = torch_trajectory(make, schedule, start)
    assert_close(jax_trajectory(section, schedule, start, 0.5), theirs)


@pytest.mark.parametrize("decay_all", [False, True])
def test_decay_of_vectors_is_a_choice(start, decay_all):
    section = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.5, "decay_all": decay_all}
    tx = build_optimizer(ConfigDict(section), lambda step: 1.0).transform
    zeros = jax.tree.map(jnp.zeros_like, start)
    updates, _ = tx.update(zeros, tx.init(start), start)
    np.testing.assert_allclose(updates["kernel"], -0.5 * start["kernel"])
    np.testing.assert_allclose(updates["bias"], -0.5 * start["bias"] if decay_all else 0.0 * start["bias"])


@pytest.mark.torch
def test_decay_after_is_the_adamw_that_transformers_had(start, schedule):
    class HuggingFaceAdamW(torch.optim.Optimizer):
        """Decoupled decay of the weights that the Adam update has already changed, written from its description."""

        def __init__(self, params):
            super().__init__(list(params.values()), {"lr": 0.0})

        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    state["n"] = n = state.get("n", 0) + 1
                    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * p.grad
                    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * p.grad**2
                    scale = group["lr"] * (1 - 0.999**n) ** 0.5 / (1 - 0.9**n)
                    with torch.no_grad():
                        p -= scale * state["m"] / (state["v"].sqrt() + 1e-6)
                        p -= group["lr"] * 0.1 * p

    section = {"name": "adamw", "eps": 1e-6, "weight_decay": 0.1, "decay_all": True, "decay_after": True}
    assert_close(jax_trajectory(section, schedule, start), torch_trajectory(HuggingFaceAdamW, schedule, start))


def decayed(**fields):
    """Paths of the parameters that a step with zero gradients changes."""
    params = {
        "backbone": {"norm": {"scale": jnp.ones(3)}, "r_w_bias": jnp.ones((2, 3))},
        "head": {"kernel": jnp.ones((2, 2))},
    }
    tx = build_optimizer(ConfigDict({"name": "sgd", "momentum": 0.0, "weight_decay": 0.5, **fields}), lambda step: 1.0)
    updates, _ = tx.transform.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, leaf in leaves if (leaf != 0).any()}


def test_the_recipe_of_a_vit_decays_neither_its_class_token_nor_its_positions():
    images = jnp.zeros((1, 8, 8, 3))
    backbone = ViT(patch_size=4, width=8, depth=1, num_heads=2)
    params = jax.eval_shape(lambda: backbone.init(jax.random.key(0), images, train=False))["params"]
    mask = _decayed(False, recipe("vit_s16")["optimizer"]["no_decay"])(params)
    spell = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    left_out = {spell(path) for path, is_decayed in jax.tree_util.tree_leaves_with_path(mask) if not is_decayed}
    leaves = {spell(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    others = {path for path in leaves if path.endswith(("/bias", "/scale"))}
    assert left_out == {"class_token", "positions"} | others
    assert {path for path, leaf in leaves.items() if leaf.ndim == 1} <= left_out


def test_no_decay_names_the_exceptions():
    assert decayed() == {"backbone/r_w_bias", "head/kernel"}
    assert decayed(no_decay=("bias",)) == {"backbone/norm/scale", "head/kernel"}
    assert decayed(no_decay=("bias", "norm/scale")) == {"head/kernel"}
    with pytest.raises(ValueError, match="decay_all is set and no_decay names"):
        decayed(no_decay=("bias",), decay_all=True)
    with pytest.raises(ValueError, match=r"config.optimizer.no_decay names 'LayerNorm.bias', which is in no parameter"):
        decayed(no_decay=("bias", "LayerNorm.bias"))


def test_no_decay_may_name_what_a_frozen_backbone_has():
    section = ConfigDict({"name": "sgd", "weight_decay": 0.5, "no_decay": ("positions",)})
    params = {"backbone": {"positions": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    assert build_optimizer(section, lambda step: 1.0, freeze_backbone=True).init(params)


def test_the_parts_have_rates_of_their_own():
    params = {"backbone": {"k": jnp.ones(2)}, "head": {"k": jnp.ones(2)}}
    for section in (
        {"name": "sgd", "momentum": 0.9},
        {"name": "adamw"},
        {"name": "adamw", "decay_after": True},
        {"name": "lamb"},
    ):
        plain, scaled = (
            build_optimizer(ConfigDict({**section, **rates}), lambda step: 0.1)
            for rates in ({}, {"head_rate": 3.0, "backbone_rate": 0.25})
        )
        (expected, _), (found, _) = (tx.transform.update(params, tx.init(params), params) for tx in (plain, scaled))
        np.testing.assert_allclose(found["head"]["k"], 3 * expected["head"]["k"], rtol=1e-6)
        np.testing.assert_allclose(found["backbone"]["k"], expected["backbone"]["k"] / 4, rtol=1e-6)


def test_a_frozen_backbone_has_no_state_and_stays():
    params = {"backbone": {"k": jnp.ones(2)}, "head": {"k": jnp.ones(2)}}
    section = ConfigDict({"name": "adamw", "weight_decay": 0.1})
    clip = ConfigDict({"name": "norm", "norm": 1.0})
    optimizer = build_optimizer(section, lambda step: 0.1, clip, freeze_backbone=True)
    state = optimizer.init(params)
    assert not any("backbone" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state))
    after, _ = optimizer.apply({"head": params["head"]}, state, params, {}, 0)
    assert (after["backbone"]["k"] == 1).all()
    assert (after["head"]["k"] < 1).all()
    with pytest.raises(ValueError, match="config.optimizer.backbone_rate is 0.1, but config.freeze_backbone leaves it"):
        build_optimizer(ConfigDict({"name": "sgd", "backbone_rate": 0.1}), lambda step: 0.1, freeze_backbone=True)
    clip.parts = ("backbone",)
    with pytest.raises(ValueError, match=r"config.clip.parts is \('backbone',\), but config.freeze_backbone leaves no"):
        build_optimizer(section, lambda step: 0.1, clip, freeze_backbone=True)


def test_nesterov_without_momentum_is_refused():
    section = ConfigDict({"name": "sgd", "momentum": 0.0, "nesterov": True})
    with pytest.raises(ValueError, match="config.optimizer.nesterov is set, but momentum is 0"):
        build_optimizer(section, lambda step: 1.0)
