"""Every parser on a few damaged files; campaign.py gives them many more.

What a campaign found has a test of its own beside the parser's others.
"""

import random

import pytest
from fuzz.mutate import GROWTH, mutated
from fuzz.target import REFUSALS
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = 20


@pytest.fixture(scope="module", params=TARGETS)
def parser(request, tmp_path_factory):
    """Whole files, the function that reads them, and how many damaged ones it is to be given."""
    target = TARGETS[request.param]
    seeds, run = target.make(tmp_path_factory.mktemp(request.param))
    return seeds, run, max(2, round(EXAMPLES * min(1, target.share)))


def is_read(run, content):
    try:
        run(content)
    except REFUSALS:
        return False
    return True


def test_whole_files_are_read(parser):
    seeds, run, _ = parser
    assert any(is_read(run, seed) for seed in seeds)


def test_damaged_files_are_read_or_refused(parser):
    seeds, run, examples = parser

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**32))
    def try_one(number):
        is_read(run, mutated(seeds, random.Random(number)))

    try_one()


def test_damage_depends_on_the_generator_alone_and_is_small():
    seeds = [b"one file 123", bytes(range(256)) * 600]
    damaged = [mutated(seeds, random.Random(number)) for number in range(300)]
    assert damaged == [mutated(seeds, random.Random(number)) for number in range(300)]
    assert sum(content in seeds for content in damaged) < 30
    assert max(map(len, damaged)) <= max(map(len, seeds)) + GROWTH
