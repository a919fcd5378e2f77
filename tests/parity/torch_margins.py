"""The published margin softmaxes in PyTorch, over all classes and in angles. Only tests import this."""

import math

import torch
from torch.nn import functional as F

DEFAULTS = {
    "none": {},
    "arcface": {"m": 0.5, "beyond": "shift", "reference_gradient": False},
    "cosface": {"m": 0.4},
    "combined": {"m1": 1.0, "m2": 0.3, "m3": 0.2},
    "curricularface": {"m": 0.5, "alpha": 0.01},
    "magface": {"l_a": 10.0, "u_a": 110.0, "l_margin": 0.45, "u_margin": 0.8, "lambda_g": 35.0, "beyond": "easy"},
    "adaface": {"m": 0.4, "h": 0.333, "t_alpha": 0.01},
}


def loss(name, fields, features, weight, labels, state):
    """Cross-entropy and penalty of each example: features [B, D], weight [C, D], labels int64 [B] -> [B].

    fields: those of config.head.margin that differ from the defaults. state: the running statistics by name; a dict,
    empty before the first step, which each call updates.
    """
    norms = features.norm(dim=1)
    cosine = F.linear(F.normalize(features), F.normalize(weight))
    scaled = logits(name, fields, cosine, norms, labels, state)
    return F.cross_entropy(scaled, labels, reduction="none") + penalty(name, fields, norms)


def logits(name, fields, cosine, norms, labels, state):
    """Scaled logits after the margin: cosine [B, C] with any set of classes, labels in 0 .. C - 1."""
    p = {"scale": 64.0, **DEFAULTS[name], **fields}
    cosine = cosine.clamp(-1, 1)
    own = F.one_hot(labels, cosine.shape[1]).bool()
    return p["scale"] * MARGINS[name](p, cosine, norms, own, state)


def penalty(name, fields, norms):
    """What is added to the loss of each example [B]."""
    if name != "magface":
        return torch.zeros_like(norms)
    p = {**DEFAULTS[name], **fields}
    length = norms.clamp(p["l_a"], p["u_a"])
    return p["lambda_g"] * (length / p["u_a"] ** 2 + length.reciprocal())


def angular(cosine, m, beyond):
    moved = torch.cos(torch.acos(cosine) + m)
    m = torch.as_tensor(m, dtype=cosine.dtype)
    if beyond == "none":
        return moved
    if beyond == "easy":
        return torch.where(cosine > 0, moved, cosine)
    return torch.where(cosine > torch.cos(math.pi - m), moved, cosine - torch.sin(math.pi - m) * m)


def none(p, cosine, norms, own, state):
    return cosine


def arcface(p, cosine, norms, own, state):
    if not p["reference_gradient"]:
        return torch.where(own, angular(cosine, p["m"], p["beyond"]), cosine)
    assert p["beyond"] == "none"
    changed = cosine * 1
    # In place, and unseen by autograd: the gradient passes as if nothing had been done.
    with torch.no_grad():
        changed.acos_()
        changed += p["m"] * own
        changed.cos_()
    return changed


def cosface(p, cosine, norms, own, state):
    return cosine - p["m"] * own


def combined(p, cosine, norms, own, state):
    return torch.where(own, torch.cos(p["m1"] * torch.acos(cosine) + p["m2"]) - p["m3"], cosine)


def curricularface(p, cosine, norms, own, state):
    target = cosine[own]
    state["t"] = p["alpha"] * target.detach().mean() + (1 - p["alpha"]) * state.get("t", 0.0)
    hard = cosine > angular(target, p["m"], "none")[:, None]
    others = torch.where(hard, cosine * (state["t"] + cosine), cosine)
    return torch.where(own, angular(cosine, p["m"], "shift"), others)


def magface(p, cosine, norms, own, state):
    share = (norms.clamp(p["l_a"], p["u_a"]) - p["l_a"]) / (p["u_a"] - p["l_a"])
    m = p["l_margin"] + share * (p["u_margin"] - p["l_margin"])
    return torch.where(own, angular(cosine, m[:, None].expand_as(cosine), p["beyond"]), cosine)


def adaface(p, cosine, norms, own, state):
    norms = norms.detach().clip(0.001, 100)
    for key, start, value in (("batch_mean", 20.0, norms.mean()), ("batch_std", 100.0, norms.std())):
        state[key] = p["t_alpha"] * value + (1 - p["t_alpha"]) * state.get(key, start)
    z = ((norms - state["batch_mean"]) / (state["batch_std"] + 1e-3) * p["h"]).clip(-1, 1)[:, None]
    angle = torch.acos(cosine.clamp(-0.999, 0.999)) - p["m"] * z * own
    return angle.clip(1e-3, math.pi - 1e-3).cos() - p["m"] * (1 + z) * own


MARGINS = {
    "none": none,
    "arcface": arcface,
    "cosface": cosface,
    "combined": combined,
    "curricularface": curricularface,
    "magface": magface,
    "adaface": adaface,
}
