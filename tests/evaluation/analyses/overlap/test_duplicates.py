"""Planted duplicates are found among other pictures, and nothing else is."""

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from drawings import CHANGES, as_png, drawing

from clip_jax.evaluation.analyses.overlap.compare import PARTS, agreement
from clip_jax.evaluation.analyses.overlap.duplicates import THRESHOLD, find_duplicates
from clip_jax.evaluation.analyses.overlap.parts import resampling
from clip_jax.evaluation.analyses.overlap.search import LEAST, Describer, find_candidates
from clip_jax.evaluation.analyses.overlap.signature import (
    SIGNATURE,
    find_content,
    make_signature,
    shows_nothing,
)

GALLERY = 60
PLANTED = 12


@pytest.fixture(scope="module")
def gallery():
    return np.stack([make_signature(as_png(drawing(seed))) for seed in range(GALLERY)])


@pytest.fixture(scope="module")
def found(gallery):
    """Of each change of the first pictures, and of as many others, the pairs that count."""
    changed = [
        make_signature(as_png(change(drawing(seed))))
        for change in CHANGES.values()
        for seed in range(PLANTED)
    ]
    others = [make_signature(as_png(drawing(seed))) for seed in range(1000, 1000 + PLANTED)]
    pairs = find_duplicates(np.stack(changed + others), gallery)
    counted = pairs.score >= THRESHOLD
    return set(zip(pairs.query[counted].tolist(), pairs.gallery[counted].tolist(), strict=True))


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_picture_is_found(found, name):
    start = list(CHANGES).index(name) * PLANTED
    missed = [seed for seed in range(PLANTED) if (start + seed, seed) not in found]
    assert len(missed) <= 1


def test_other_pictures_are_not(found):
    assert {(query, other) for query, other in found if other != query % PLANTED} == set()


def test_either_may_be_the_cropped_one(gallery):
    cropped = [make_signature(as_png(CHANGES["cropped"](drawing(seed)))) for seed in range(5)]
    pairs = find_duplicates(gallery[:5], np.stack(cropped))
    assert dict(zip(pairs.query.tolist(), pairs.gallery.tolist(), strict=True)) == {
        number: number for number in range(5)
    }


def test_every_near_description_is_a_candidate_in_few_pictures(gallery):
    """The cells lose nothing that the cosines of all views with all wholes would find."""
    queries = gallery[:8]
    describe = Describer(gallery["grey"])
    found = find_candidates(queries, gallery)
    pairs = set(zip(found.query.tolist(), found.gallery.tolist(), strict=True))
    ours, theirs = describe(queries["grey"])[:, [0, 36]], describe(gallery["grey"])
    cosines = np.einsum("qad,gvd->qgav", ours, theirs).max(axis=(2, 3))
    near = {(int(q), int(g)) for q, g in np.argwhere(cosines > LEAST + 0.05)}
    assert near
    assert len(near - pairs) <= 0.02 * len(near)


def test_plain_pictures_are_nobodys_duplicates(gallery):
    plain = [make_signature(as_png(PIL.Image.new("RGB", (90, 60), c))) for c in ("white", "red")]
    assert shows_nothing(np.stack(plain)).all()
    assert not shows_nothing(gallery).any()
    both = np.concatenate([plain, gallery[:5]])
    pairs = find_duplicates(both, both)
    assert set(pairs.query.tolist()) == set(range(2, 7))


def test_hundreds_of_copies_hide_nothing(gallery):
    """Of copies one is enough; those of a picture of one colour lie near nothing."""
    plain = make_signature(as_png(PIL.Image.new("RGB", (90, 60), "white")))
    copies = np.concatenate([np.repeat(gallery[7:8], 300), np.repeat(plain[None], 300), gallery])
    pairs = find_duplicates(np.concatenate([gallery[:10], copies[-70:-60]]), copies)
    counted = pairs.score >= THRESHOLD
    found = set(zip(pairs.query[counted].tolist(), pairs.gallery[counted].tolist(), strict=True))
    assert found == {(number, 0 if number == 7 else 600 + number) for number in range(10)}


def test_of_copies_in_other_colours_each_is_looked_at(gallery):
    """A grey copy of a picture that comes first does not stand for the picture."""
    grey = gallery[:5].copy()
    grey["colour"] = 128
    pairs = find_duplicates(gallery[:5], np.concatenate([grey, gallery[:5]]))
    best = dict(zip(pairs.query[::-1].tolist(), pairs.gallery[::-1].tolist(), strict=True))
    assert best == {number: 5 + number for number in range(5)}


def test_a_signature_is_small_and_ignores_transparency():
    picture = drawing(0)
    assert SIGNATURE.itemsize <= 2400
    clear = picture.convert("RGBA")
    clear.putdata([(9, 9, 9, 0) if p[:3] == (255, 255, 255) else p for p in clear.getdata()])
    one, other = make_signature(as_png(picture)), make_signature(as_png(clear))
    assert np.abs(one["grey"].astype(int) - other["grey"]).max() <= 2


@pytest.mark.parametrize("colours", [("black",), ("white", "black"), ("red", "white", "navy")])
def test_borders_are_cut_layer_by_layer(colours):
    inner = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8))
    picture, margin = inner, 0
    for number, colour in enumerate(colours):
        grey = PIL.Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
        picture = PIL.ImageOps.expand(picture, 5 + number, grey)
        margin += 5 + number
    box = find_content(np.asarray(picture))
    assert box == (margin, margin, margin + 60, margin + 40)


def test_resampling_averages():
    pixels = np.arange(32.0)
    assert resampling(np.array([[0, 1]]), 32, 8)[0] @ pixels == pytest.approx(
        pixels.reshape(8, 4).mean(axis=1)
    )
    assert resampling(np.array([[0.25, 0.75]]), 32, 4)[0] @ pixels == pytest.approx(
        pixels[8:24].reshape(4, 4).mean(axis=1)
    )
    assert tuple(PARTS[0]) == (0, 1)


def test_colours_agree_but_for_a_shift_of_hue():
    rng = np.random.default_rng(0)
    one = rng.normal(0, 40, (1, 8, 8, 2))

    def turned(degrees, scale=1.0):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return scale * one @ np.array([[c, s], [-s, c]])

    assert agreement(one, one)[0] == pytest.approx(1, abs=1e-4)
    assert agreement(one, turned(30))[0] == pytest.approx(1, abs=1e-4)
    assert agreement(one, turned(180))[0] < 0
    assert agreement(one, turned(90))[0] < agreement(one, turned(60))[0] < 1
    assert 0.8 < agreement(one, turned(0, 0.6))[0] < 1
    assert agreement(0 * one, 0 * one)[0] == pytest.approx(1, abs=1e-4)
