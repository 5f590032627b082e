"""Stages are told apart, and the one that limits is named."""

import time

import numpy as np
import pytest
from shards import encode, smooth, write_tar

from clip_jax.data.__main__ import run
from clip_jax.data.images import Resize
from clip_jax.data.samples import Pair
from clip_jax.data.tools import bench
from clip_jax.data.tools.bench import STAGES, Rates, describe, measure
from clip_jax.errors import InputError


class Slow:
    """Pairs of which reading or tokenizing takes ten milliseconds; every fourth is broken."""

    vocab_size, context_length = 10, 4
    image = encode(smooth((40, 30)), "jpeg")

    def __init__(self, stage):
        self._stage = stage

    def __len__(self):
        return 64

    def __getitem__(self, index):
        time.sleep(0.01 * (self._stage == "read"))
        return Pair(str(index), b"" if index % 4 == 0 else self.image, ("a picture",))

    def captions(self, index):
        return ("a picture",)

    def __call__(self, texts, truncate=False):
        time.sleep(0.01 * len(texts) * (self._stage == "tokenize"))
        return np.zeros((len(texts), 4), np.int32)


@pytest.mark.parametrize("stage", ["read", "tokenize"])
def test_the_stage_that_limits_is_found(stage):
    slow = Slow(stage)
    rates = measure(slow, slow, Resize(16), 16, seconds=0.4)
    assert set(rates.stages) == set(STAGES)
    assert min(rates.stages, key=rates.stages.get) == stage
    assert 50 < rates.stages[stage] <= 100
    assert rates.one_core < rates.stages[stage]
    assert rates.bad > 0


def test_pairs_that_are_all_bad_are_refused():
    class Broken(Slow):
        image = b"broken"

    with pytest.raises(InputError, match="none of 16 pairs can be used; look at them with inspect"):
        measure(Broken(""), Broken(""), Resize(16), 16, seconds=0)


def rates(pipeline, cores=4):
    stages = {"read": 1000.0, "decode": 500.0, "crop and resize": 250.0}
    return Rates(stages, pipeline, cores, bad=0)


def test_shares_and_limit_are_told():
    assert rates(0).one_core == pytest.approx(1 / (0.001 + 0.002 + 0.004))
    assert rates(500).limit == "crop and resize takes 57% of the time"
    assert rates(300).limit.startswith("4 cores together are slower than 4 times one")
    assert "decode                  500     29%" in describe(rates(500))


def test_the_command_measures_shards(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "usable_cores", lambda: 2)
    members = []
    for number in range(20):
        members += [(f"{number}.jpg", Slow.image), (f"{number}.txt", b"a picture of something")]
    tar = write_tar(tmp_path / "a.tar", members)
    run(["bench", f"wds:{tar}", "--image-size", "16", "--batch-size", "8", "--seconds", "0.2"])
    output = capsys.readouterr().out
    assert all(stage in output for stage in STAGES)
    assert "on 2 cores" in output


def test_what_is_not_positive_is_refused(tmp_path):
    with pytest.raises(InputError, match="image_size must be positive, got 0"):
        run(["bench", "scenes:", "--image-size", "0"])
