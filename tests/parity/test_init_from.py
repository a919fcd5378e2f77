"""A PyTorch file evaluated by the whole program gives PyTorch's own accuracy."""

import pickle

import numpy as np
import pytest
import torch

from mhe_jax.inference.evaluate import evaluate
from mhe_jax.recipes.files import load_config
from tests.parity.torch_models import Model

pytestmark = pytest.mark.torch


@pytest.fixture
def pictures(tmp_path):
    """40 CIFAR-100 test images in torchvision's pickles (training is not read here, but must be there)."""
    folder, rng = tmp_path / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir()
    data = rng.integers(256, size=(40, 3072), dtype=np.uint8)
    for part in ("train", "test"):
        (folder / part).write_bytes(pickle.dumps({"data": data, "fine_labels": list(range(40))}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    return data.reshape(40, 3, 32, 32)


def greedy(model, features):
    """The published inference: the best group, then the best of its ten classes; and each class's log-probability."""
    group = model.group(features).log_softmax(1)
    members = model.embed.weight.reshape(10, 10, -1)
    children = torch.einsum("bh,gch->bgc", model.classifier(features), members).log_softmax(2)
    best = group.argmax(1)
    child = children[torch.arange(len(features)), best].argmax(1)
    return best * 10 + child, (group[:, :, None] + children).reshape(len(features), 100)


def test_the_published_cascade_scores_the_same(tmp_path, pictures, monkeypatch):
    torch.manual_seed(0)
    model = Model("reference_cifar", 18, head="mhc", sizes=(10, 10), hidden=256).eval()
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    with torch.no_grad():
        features = model((torch.from_numpy(pictures).float() / 255 - mean) / std)
        ids, log_probs = greedy(model, features)
    # Labels of which PyTorch gets a known share right.
    labels = torch.where(torch.arange(40) < 17, ids, (ids + 1) % 100)
    test = tmp_path / "cifar-100-python" / "test"
    test.write_bytes(pickle.dumps({"data": pictures.reshape(40, -1), "fine_labels": labels.tolist()}))
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "model.pth")

    config = load_config("cifar100_mhc:" + "reference")
    monkeypatch.setenv("HOME", str(tmp_path))
    config.data.path, config.init_from = str(tmp_path), "~/model.pth"
    config.global_batch_size = 16
    values = evaluate(config, None)
    assert values["examples"] == 40
    assert values["top1"] == pytest.approx(17 / 40)
    expected = -log_probs[torch.arange(40), labels].mean().item()
    assert values["loss"] == pytest.approx(expected, rel=1e-5)
