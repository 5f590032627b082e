"""Generated scenes: the picture shows what its caption says, and held-out means never told."""

import colorsys
import re

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv

from clip_jax.data.sources import scenes

SIZE = 64
PLACES = {"above": (0, -1), "below": (0, 1), "left of": (1, -1), "right of": (1, 1)}
"""Relation -> axis (0 down, 1 right) and side on which the first object lies."""
HUES = {"red": 0, "orange": 30, "yellow": 55, "green": 120, "cyan": 180, "blue": 230, "purple": 280}
FILLS = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}
"""Share of its bounding box that a shape fills, by geometry."""


def read(caption):
    """A caption -> ((colour, shape), relation, (colour, shape)), by its words alone."""
    relation = "|".join(PLACES)
    match = re.search(rf"\ba (\w+) (\w+) ({relation}) a (\w+) (\w+)$", caption)
    assert match, caption
    return match.group(1, 2), match.group(3), match.group(4, 5)


def meaning(caption):
    """The same for both tellings of a scene: relations as above or left of."""
    first, relation, second = read(caption)
    swap = {"below": "above", "right of": "left of"}
    return (second, swap[relation], first) if relation in swap else (first, relation, second)


def hue_distance(a, b):
    return np.abs((a - b + 180) % 360 - 180)


def colour_masks(picture):
    """Where each colour of the vocabulary lies: pixels unlike the border, by nearest hue."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    foreground = np.abs(picture - np.median(border, axis=0)).sum(-1) > 60
    hues = rgb_to_hsv(picture / 255)[..., 0] * 360
    names = list(scenes.COLOURS)
    own = [360 * colorsys.rgb_to_hsv(*(v / 255 for v in scenes.COLOURS[n]))[0] for n in names]
    nearest = np.argmin([hue_distance(hues, hue) for hue in own], axis=0)
    return {name: foreground & (nearest == i) for i, name in enumerate(names)}


def assert_shows(picture, caption):
    """Both colours are there and no other, and lie to each other as told."""
    first, relation, second = read(caption)
    masks = colour_masks(picture)
    areas = {name: mask.sum() for name, mask in masks.items()}
    enough = 0.01 * picture.shape[0] ** 2
    assert {name for name, area in areas.items() if area > enough} == {first[0], second[0]}
    if first[0] != second[0]:
        axis, side = PLACES[relation]
        centres = [np.argwhere(masks[item[0]]).mean(axis=0)[axis] for item in (first, second)]
        assert side * (centres[0] - centres[1]) > 0.1 * picture.shape[0], caption


def test_colours_are_called_what_they_are():
    for name, (red, green, blue) in scenes.COLOURS.items():
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        distances = {other: hue_distance(360 * hue, HUES[other]) for other in HUES}
        assert min(distances, key=distances.get) == name
        assert saturation > 0.5
        assert value > 0.4


def test_training_pictures_show_their_captions():
    source = scenes.TrainingScenes(SIZE)
    for index in range(300):
        pair = source[index]
        assert pair.image.shape == (SIZE, SIZE, 3)
        assert pair.image.dtype == np.uint8
        assert_shows(pair.image, *pair.captions)


def test_held_out_pictures_show_their_class():
    data = scenes.held_out_scenes(SIZE)
    for index in range(0, len(data.images), 7):
        assert_shows(data.images[index], data.classnames[data.labels[index]])


def test_captioned_pictures_show_both_captions():
    data = scenes.captioned_scenes(SIZE)
    for index in range(0, len(data.images), 3):
        for caption in data.captions[index]:
            assert_shows(data.images[index], caption)
        assert meaning(data.captions[index][0]) == meaning(data.captions[index][1])
        assert data.captions[index][0] != data.captions[index][1]


@pytest.mark.parametrize("shape", [shape for shape in scenes.SHAPES if shape in FILLS])
def test_shapes_are_what_they_are_called(shape):
    data = scenes.held_out_scenes(128)
    fills = []
    for index in range(len(data.images)):
        first, _, second = read(data.classnames[data.labels[index]])
        if first[0] == second[0] or shape not in (first[1], second[1]) or len(fills) >= 25:
            continue
        colour = next(item[0] for item in (first, second) if item[1] == shape)
        mask = colour_masks(data.images[index])[colour]
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        fills.append(mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
    assert len(fills) >= 10
    np.testing.assert_allclose(np.median(fills), FILLS[shape], atol=0.06)


def test_pictures_depend_on_their_number_alone():
    one, other = scenes.TrainingScenes(32), scenes.TrainingScenes(32)
    for index in (7, 3, 7, 999_999):
        np.testing.assert_array_equal(one[index].image, other[index].image)
        assert one[index].captions == other[index].captions == other.captions(index)
    assert len({one[index].image.tobytes() for index in range(100)}) == 100
    held_out = scenes.held_out_scenes(32).images
    again = scenes.held_out_scenes(32).images
    np.testing.assert_array_equal(held_out[11], again[11])
    period = len(scenes.compositions()[1])
    assert (held_out[0] != held_out[period]).any()  # another picture of the same composition


def training_meanings(count):
    source = scenes.TrainingScenes(SIZE)
    return [meaning(*source.captions(index)) for index in range(count)]


def test_held_out_compositions_are_never_told_in_training():
    data = scenes.held_out_scenes(SIZE)
    held_out = {meaning(data.classnames[label]) for label in data.labels}
    retrieval = {
        meaning(c) for captions in scenes.captioned_scenes(SIZE).captions for c in captions
    }
    told = training_meanings(5000)
    assert not held_out & set(told)
    assert not {(second, relation, first) for first, relation, second in held_out} & set(told)
    assert retrieval <= held_out


def test_every_object_and_relation_is_told_in_training():
    told = training_meanings(5000)
    objects = {(colour, shape) for colour in scenes.COLOURS for shape in scenes.SHAPES}
    assert {first for first, _, _ in told} == objects
    assert {second for _, _, second in told} == objects
    captions = [scenes.TrainingScenes(SIZE).captions(index)[0] for index in range(500)]
    assert {read(caption)[1] for caption in captions} == set(PLACES)


def test_classes_are_all_compositions_once():
    data = scenes.held_out_scenes(SIZE)
    objects = [(colour, shape) for colour in scenes.COLOURS for shape in scenes.SHAPES]
    classes = {meaning(name) for name in data.classnames}
    assert (
        len(classes)
        == len(data.classnames)
        == len(scenes.RELATIONS) * len(objects) * (len(objects) - 1)
    )
    counts = np.bincount(data.labels, minlength=len(data.classnames))
    assert len(data.labels) == len(data.images)
    shown = counts[counts > 0]
    assert 1 / len(counts) <= 0.02  # chance
    assert 0 < len(shown) < len(counts)
    assert shown.max() - shown.min() <= 1
    assert all("{c}" in template for template in data.templates)


def test_training_captions_are_worded_in_every_way():
    captions = [scenes.TrainingScenes(SIZE).captions(index)[0] for index in range(500)]
    told = rf"a \w+ \w+ ({'|'.join(PLACES)}) a \w+ \w+"
    for template in scenes.TEMPLATES:
        before, after = map(re.escape, template.split("{c}"))
        assert any(re.fullmatch(before + told + after, caption) for caption in captions)
