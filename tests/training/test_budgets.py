"""The paper's train steps cost no more on TPU slices than they did: collectives, memory, FLOPs."""

import json
import runpy
from pathlib import Path

import pytest

MAKE = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "make_budgets.py"))
SLACK = 1.05
"""Versions of the compiler differ a little."""


@pytest.mark.parametrize("name", MAKE["CASES"])
def test_a_step_stays_within_its_budget(tpu, name):
    """What to do if it does not: see make_budgets.py."""
    allowed = json.loads(MAKE["BUDGETS"].read_text())[name]
    found = MAKE["budget"](*MAKE["CASES"][name])
    sent, allowed_sent = found.pop("sent"), allowed.pop("sent")
    assert sum(sent.values()) <= SLACK * sum(allowed_sent.values()), (sent, allowed_sent)
    over = {name: n / allowed[name] for name, n in found.items() if n > SLACK * allowed[name]}
    assert not over
