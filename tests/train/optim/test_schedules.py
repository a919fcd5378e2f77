import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from mhe_jax.train.optim.schedules import build_schedule


def rates(section, total_steps, steps_per_epoch, steps=None):
    schedule = build_schedule(ConfigDict(section), total_steps, steps_per_epoch)
    return np.array([float(schedule(step)) for step in range(steps or total_steps)])


def torch_rates(make, steps, steps_per_epoch, learning_rate=0.1):
    """The rate of each step when a torch scheduler is stepped at the end of every epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    scheduler = make(optimizer)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % steps_per_epoch == 0:
            scheduler.step()
    return np.array(found)


@pytest.mark.torch
@pytest.mark.parametrize("steps_per_epoch", [1, 4])
def test_cosine_is_torchs(steps_per_epoch):
    section = {"name": "cosine", "learning_rate": 0.1, "end_learning_rate": 1e-5, "per_epoch": steps_per_epoch > 1}
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20 // steps_per_epoch, eta_min=1e-5),
        20,
        steps_per_epoch,
    )
    np.testing.assert_allclose(rates(section, 20, steps_per_epoch), expected, rtol=1e-5)


@pytest.mark.torch
def test_steps_is_torchs_multi_step():
    section = {"name": "steps", "learning_rate": 0.1, "milestones": (2, 4), "factor": 0.1}
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 4], 0.1), 20, 4)
    np.testing.assert_allclose(rates(section, 20, 4), expected, rtol=1e-5)


def test_poly_is_the_formula_of_insightface():
    section = {"name": "poly", "learning_rate": 0.2, "power": 2.0, "warmup_epochs": 1.0}
    expected = [0.2 * t / 5 if t < 5 else 0.2 * (1 - (t - 5) / (20 - 5)) ** 2 for t in range(20)]
    np.testing.assert_allclose(rates(section, 20, 5), expected, rtol=1e-5, atol=1e-9)


def test_constant_warms_up_and_stays():
    section = {"name": "constant", "learning_rate": 2.0, "warmup_epochs": 0.5}
    np.testing.assert_allclose(rates(section, 6, 4), [0, 1, 2, 2, 2, 2])


def test_warmup_reaches_the_peak_where_the_cosine_starts():
    section = {"name": "cosine", "learning_rate": 1.0, "warmup_epochs": 1.0, "end_learning_rate": 0.0}
    found = rates(section, 12, 4, steps=13)
    assert found[4] == found.max() == 1.0
    assert found[12] == pytest.approx(0.0, abs=1e-7)
    assert (np.diff(found[:5]) > 0).all()
    assert (np.diff(found[4:]) < 0).all()


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match=r"config.schedule.power is not a field of 'cosine'"):
        rates({"name": "cosine", "learning_rate": 1.0, "power": 2.0}, 4, 2)


def test_a_constant_rate_has_nothing_to_hold_through_an_epoch():
    section = {"name": "constant", "learning_rate": 0.1, "per_epoch": True}
    with pytest.raises(ValueError, match="config.schedule.per_epoch is set, but a constant rate"):
        rates(section, 10, 5)


@pytest.mark.parametrize(
    ("field", "section"),
    [
        ("learning_rate", {"name": "cosine", "learning_rate": -1.0}),
        ("learning_rate", {"name": "constant", "learning_rate": float("nan")}),
        ("warmup_epochs", {"name": "constant", "learning_rate": 1.0, "warmup_epochs": -1.0}),
        ("end_learning_rate", {"name": "cosine", "learning_rate": 1.0, "end_learning_rate": -0.1}),
        ("power", {"name": "poly", "learning_rate": 1.0, "power": -1.0}),
        ("factor", {"name": "steps", "learning_rate": 1.0, "milestones": (1,), "factor": -0.1}),
        ("milestones", {"name": "steps", "learning_rate": 1.0, "milestones": (-1, 2)}),
    ],
)
def test_numbers_below_zero_are_named(field, section):
    with pytest.raises(ValueError, match=rf"config.schedule.{field} is .*; (it|they) must be 0 or more"):
        rates(section, 4, 2)
