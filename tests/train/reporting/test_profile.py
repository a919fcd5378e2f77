import gzip
import json
import re

import pytest

from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting.profile import Profile, parse_steps
from tests import tiny_config
from tests.train.saved import assert_same, final_weights


def test_the_trace_has_the_steps_that_were_asked_for_and_the_run_is_the_same(tmp_path, capsys):
    """Two runs of which one is traced, in dispatches of four steps that the trace cuts."""
    config = tiny_config.get_config()
    config.steps_per_dispatch, config.eval_every_steps, config.checkpoint_every_steps = 4, 6, 6
    train_and_evaluate(config, tmp_path / "plain")
    train_and_evaluate(config, tmp_path / "traced", profile_steps=(2, 3))
    assert f"the trace is in {tmp_path}/traced/profile" in capsys.readouterr().out
    assert_same(final_weights(tmp_path / "plain"), final_weights(tmp_path / "traced"))
    (written,) = (tmp_path / "traced" / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(written.read_bytes()))["traceEvents"]
    starts = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert starts == ["2"]  # one dispatch of two steps
    assert list((tmp_path / "traced" / "profile").rglob("*.xplane.pb"))
    # Another start is past them.
    train_and_evaluate(config, tmp_path / "traced", profile_steps=(2, 3))
    assert "--profile_steps: step 3 is behind this start at 6, nothing is traced" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "3", "0:4", "4:3", "1:2:3", "a:b", "-1:3", "1.5:3"])
def test_other_than_two_steps_is_an_error(text):
    with pytest.raises(ValueError, match=re.escape(f"--profile_steps is {text!r}; it must be FIRST:LAST")):
        parse_steps(text)


def test_two_steps_are_read():
    assert parse_steps("100:109") == (100, 109)
    assert parse_steps("7:7") == (7, 7)


def test_steps_that_the_run_does_not_have_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="--profile_steps is 5:7, but the run has 6 steps"):
        Profile((5, 7), 6, tmp_path)
