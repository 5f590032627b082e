"""Captions of pictures in batches against those of single ones; the files; what is refused."""

import csv
import dataclasses
import json
from pathlib import Path

import PIL.Image
import pytest
from random_model import random_model
from shards import encode, solid

from clip_jax.errors import InputError
from clip_jax.evaluation.embed import on_all_devices
from clip_jax.evaluation.pictures import caption
from clip_jax.evaluation.pictures.caption import run_caption
from clip_jax.model import Model
from clip_jax.models.config import DecoderConfig
from clip_jax.models.generate import Decoding
from clip_jax.models.presets import PRESETS

COLOURS = ["red", "lime", "blue", "white", "black"]


@pytest.fixture(scope="module")
def model():
    """A captioner of random weights, three times as large, so that captions differ."""
    text = dataclasses.replace(PRESETS["ViT-tiny"].text, read="none")
    model = random_model(text=text, decoder=DecoderConfig(1))
    params = {name: _times(leaf, 3) for name, leaf in model.params.items()}
    return dataclasses.replace(model, params=params)


def _times(tree, factor):
    if isinstance(tree, dict):
        return {name: _times(leaf, factor) for name, leaf in tree.items()}
    return tree * factor


@pytest.fixture
def folder(tmp_path):
    """Five pictures and an unreadable one."""
    root = tmp_path / "pictures"
    root.mkdir()
    for colour in COLOURS:
        (root / f"{colour}.png").write_bytes(encode(PIL.Image.new("RGB", (20, 24), colour)))
    (root / "bad.jpg").write_bytes(b"not a picture")
    return root


def run(model, folder, output="captions.json", seed=0, sheet="sheet.png", **how):
    places, root = [str(folder)], folder.parent
    load = lambda name: model  # noqa: E731
    run_caption(load, "some", places, Decoding(**how), seed, root / output, root / sheet)
    return (root / output).read_text()


def as_json(text):
    return {Path(one["file"]).stem: one["caption"] for one in json.loads(text)["pictures"]}


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_captions(model, folder, method, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(caption, "BATCH", 2)
    text = run(model, folder, method=method, length=12)
    pixels = {colour: model.preprocess(folder / f"{colour}.png") for colour in COLOURS}
    decoding = Decoding(method, length=12)
    expected = {colour: model.caption(image, decoding)[0] for colour, image in pixels.items()}
    assert as_json(text) == expected
    assert len(set(expected.values())) > 1
    assert json.loads(text)["unreadable"] == [str(folder / "bad.jpg")]
    told = capsys.readouterr().out
    assert f"1 unreadable, left out: {folder}/bad.jpg" in told
    for colour, own in expected.items():
        assert any(f"{colour}.png" in line and own in line for line in told.splitlines())
    with PIL.Image.open(folder.parent / "sheet.png") as sheet:
        sheet.load()


def test_as_csv(model, folder):
    expected = as_json(run(model, folder, length=12))
    rows = list(csv.DictReader(run(model, folder, "captions.csv", length=12).splitlines()))
    assert {Path(row["file"]).stem: row["caption"] for row in rows} == expected


def test_draws_by_seed_on_any_devices(model, folder):
    how = {"method": "nucleus", "top_p": 1.0, "length": 10}
    drawn = as_json(run(model, folder, seed=1, **how))
    assert as_json(run(on_all_devices(model), folder, seed=1, **how)) == drawn
    assert as_json(run(model, folder, seed=2, **how)) != drawn


def test_a_model_without_captions(folder):
    with pytest.raises(InputError, match="makes embeddings and no captions; those do that have a"):
        run(random_model(), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_p": 2}, "top_p must be"),
        ({"seed": -1}, "seed must not be negative"),
        ({"output": "captions.png"}, "captions.png: is .csv, else JSON"),
        ({"sheet": "sheet.pgn"}, "its name must end in .png"),
    ],
)
def test_what_is_refused_before_the_model_is_used(folder, change, message):
    with pytest.raises(InputError, match=message):
        run(None, folder, **change)


def test_nothing_readable(model, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/bad.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="none of the 1 images"):
        run(model, tmp_path / "pictures")


def test_a_model_without_its_vocabulary_writes_nothing(model, folder, monkeypatch):
    monkeypatch.setattr(Model, "write", lambda *given: pytest.fail("in vain"))
    without = dataclasses.replace(model, tokenizer=None)
    with pytest.raises(InputError, match="came without its vocabulary"):
        run(without, folder)
    with pytest.raises(InputError, match="came without its vocabulary"):
        without.caption(model.preprocess(solid(3)))


def test_one_picture(model):
    assert len(model.caption(model.preprocess(solid(3)))) == 1
