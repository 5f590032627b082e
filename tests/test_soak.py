"""benchmarks/soak.py in short: a run that is killed at random ends as if it had not been."""

import random
from pathlib import Path

import pytest

STEPS, KILLS = 16, 1


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import soak

    soak.prepare(tmp_path, STEPS)
    campaign = soak.Soak(tmp_path, STEPS, random.Random(1))
    campaign.undisturbed(tmp_path / "expected", 1, 1)
    campaign.round(tmp_path / "work", [(1, 1)], lambda: campaign.done["kills"] >= KILLS)
    soak.check_same(tmp_path / "work", tmp_path / "expected", STEPS)
    assert campaign.done["kills"] == KILLS
    (tmp_path / "work/metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    with pytest.raises(soak.Failure):
        soak.check_same(tmp_path / "work", tmp_path / "expected", STEPS)
