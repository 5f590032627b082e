"""What evaluates on all devices of several processes gives the numbers of one device."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from processes import together
from protocols import random_captioner, run_protocols
from shards import encode, smooth, solid, write_classification, write_tar

from clip_jax.evaluation.embed import on_all_devices

PROGRAM = str(Path(__file__).parents[1] / "protocols.py")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set with a train split, one of fewer classes, and pictures of which one is unreadable."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_classification(tmp_path / "pets", [])
    write_coloured(root / "train", 40)
    write_coloured(root / "test", 21)
    write_classification(tmp_path / "few", [], ("dog", "cat"))
    write_coloured(tmp_path / "few/test", 5, classes=2)
    (tmp_path / "pictures").mkdir()
    for number in range(9):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(encode(solid(20 * number)))
    (tmp_path / "pictures" / "wide.png").write_bytes(encode(smooth((60, 20))))
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    return tmp_path


def write_coloured(split, count, classes=3):
    """Pictures of which each class has its colour: far from where rounding could matter."""
    rng, members = np.random.default_rng(count), []
    for number in range(count):
        pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
        pixels[..., number % classes] += 180
        image = encode(PIL.Image.fromarray(pixels))
        members += [(f"{number}.png", image), (f"{number}.cls", b"%d" % (number % classes))]
    write_tar(split / "0.tar", members)
    (split / "nshards.txt").write_text("1")


def test_protocols_give_the_same_numbers_on_one_device_many_and_two_processes(model, folder):
    models = model, random_captioner()
    alone = run_protocols(*models, folder, folder / "alone")
    many = run_protocols(*map(on_all_devices, models), folder, folder / "many")
    ended = together([PROGRAM, str(folder)], 2, 2)
    assert [process.code for process in ended] == [0, 0], ended
    assert ["acc1" in process.output for process in ended] == [True, False]
    two = [json.loads((folder / f"out/results-{index}.json").read_text()) for index in range(2)]
    for results in (many, *two):
        for (*about, metrics), (*known, expected) in zip(results, alone, strict=True):
            assert about == known
            assert metrics == pytest.approx(expected, abs=1e-6)
    for place in ("many", "out"):
        captions = [(folder / name / "captions.json").read_text() for name in (place, "alone")]
        assert captions[0] == captions[1]
        assert (folder / place / "pets.csv").read_text() == (folder / "alone/pets.csv").read_text()
        found, expected = (
            json.loads((folder / name / "labels.json").read_text()) for name in (place, "alone")
        )
        assert found["unreadable"] == expected["unreadable"]
        assert len(found["pictures"]) == 10
        for one, other in zip(found["pictures"], expected["pictures"], strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
