"""Generated videos: they show what is told, and only the order of frames tells pairs apart."""

import colorsys
import re

import numpy as np
import pytest
from shards import refusal

from clip_jax.data.sources.moving_scenes import (
    MOTIONS,
    HeldOutMovingScenes,
    Scene,
    TrainingMovingScenes,
    captioned_moving_scenes,
    draw,
    held_out_moving_scenes,
    scenes,
)
from clip_jax.data.sources.scenes import COLOURS
from clip_jax.data.sources.spec import open_captioned, open_labelled, open_pairs

FRAMES, SIZE = 6, 48
BACKWARDS = {back: forth for forth, back in MOTIONS.items()}


def frames_of(video):
    return np.stack(video.frames(range))


def measures(video):
    """Of each frame, by its pixels: centre (down, across), area and strength of what is shown."""
    rows = []
    for frame in video.astype(int):
        difference = np.abs(frame - frame[0, 0]).sum(axis=-1)
        inside = difference > difference.max() / 2
        rows.append((*np.argwhere(inside).mean(axis=0), inside.sum(), difference.max()))
    return np.array(rows).T


def motion_of(video):
    """What changes most in a video, and which way, in the captions' words."""
    down, across, area, strength = measures(video)
    changes = {
        ("moving up", "moving down"): (down[-1] - down[0]) / SIZE,
        ("moving left", "moving right"): (across[-1] - across[0]) / SIZE,
        ("shrinking", "growing"): np.log(area[-1] / area[0]),
        ("disappearing", "appearing"): np.log(strength[-1] / strength[0]),
    }
    names, change = max(changes.items(), key=lambda item: abs(item[1]))
    return names[int(change > 0)]


def colour_of(video):
    """The colour's name, by the hue of the strongest pixel."""
    frame = max(video, key=lambda f: np.abs(f.astype(int) - f[0, 0]).sum(axis=-1).max())
    place = np.abs(frame.astype(int) - frame[0, 0]).sum(axis=-1).argmax()
    hue = colorsys.rgb_to_hsv(*frame.reshape(-1, 3)[place] / 255)[0]
    hues = {name: colorsys.rgb_to_hsv(*(v / 255 for v in COLOURS[name]))[0] for name in COLOURS}
    return min(hues, key=lambda name: abs((hue - hues[name] + 0.5) % 1 - 0.5))


def test_videos_show_what_their_captions_tell():
    source = TrainingMovingScenes(SIZE, FRAMES)
    seen = set()
    for index in range(200):
        pair = source[index]
        (caption,) = pair.captions
        assert source.captions(index) == pair.captions
        colour, _, motion = re.search(r"\ba (\w+) (circle|square|triangle) (.+)$", caption).groups()
        video = frames_of(pair.image)
        assert video.shape == (FRAMES, SIZE, SIZE, 3)
        assert video.dtype == np.uint8
        assert motion_of(video) == motion, caption
        assert colour_of(video) == colour, caption
        seen.add(motion)
    assert seen == {*MOTIONS, *MOTIONS.values()}


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_a_motion_and_its_reverse_have_the_same_frames(motion, frames):
    for seed in range(20):
        forth, back = (
            draw(Scene("red", "circle", motion, way), frames, 32, np.random.default_rng(seed))
            for way in (False, True)
        )
        np.testing.assert_array_equal(back, forth[::-1])
    assert frames == 1 or (forth[0] != forth[-1]).any()


def test_held_out_videos_come_forwards_and_then_backwards():
    data = held_out_moving_scenes(32, 4)
    for index in range(0, 60, 2):
        forth, back = (frames_of(data.images[i]) for i in (index, index + 1))
        np.testing.assert_array_equal(back, forth[::-1])
        named = [data.classnames[data.labels[i]] for i in (index, index + 1)]
        words = [re.sub(r"^a \w+ \w+ ", "", name) for name in named]
        assert words[1] == MOTIONS[words[0]]
        assert named[0].replace(words[0], "") == named[1].replace(words[1], "")
    assert len(set(data.classnames)) == len(data.classnames) == 96


def test_held_out_scenes_are_never_told_in_training():
    shown, held_out = scenes()
    kinds = [{(s.colour, s.shape, s.motion) for s in part} for part in (shown, held_out)]
    assert not kinds[0] & kinds[1]
    assert (len(shown), len(held_out)) == (78, 18)
    told = {scene.describe() for scene in held_out}
    source = TrainingMovingScenes(8, 2)
    captions = [source.captions(index)[0] for index in range(3000)]
    assert not any(caption.endswith(tuple(told)) for caption in captions)
    for words in ({s.motion for s in shown}, {s.colour for s in shown}, {s.shape for s in shown}):
        assert {w for s in held_out for w in (s.motion, s.colour, s.shape)} & words
    assert {s.motion for s in held_out} <= {s.motion for s in shown}


def test_the_same_number_gives_the_same_video_everywhere():
    first, second = (TrainingMovingScenes(16, 4)[12345] for _ in range(2))
    np.testing.assert_array_equal(frames_of(first.image), frames_of(second.image))
    other = TrainingMovingScenes(16, 4)[12346]
    assert (frames_of(other.image) != frames_of(first.image)).any()
    test, train = (HeldOutMovingScenes(16, 4, 10, split) for split in ("test", "train"))
    assert (frames_of(test[0]) != frames_of(train[0])).any()
    assert test.identity != train.identity


def test_retrieval_has_each_held_out_scene_once():
    data = captioned_moving_scenes(16, 4)
    _, held_out = scenes()
    assert data.captions == [[scene.describe()] for scene in held_out]
    assert len(data.images) == len(held_out)


def test_by_name_for_models_of_videos_only():
    assert len(open_pairs("moving_scenes:", 16, frames=4)) == 1_000_000
    assert open_labelled("moving_scenes:", 16, frames=4).name == "moving_scenes"
    assert open_captioned("moving_scenes:", 16, frames=4).name == "moving_scenes"
    for opened in (open_pairs, open_labelled, open_captioned):
        assert "which a model of videos reads" in refusal(opened, "moving_scenes:", 16)
    assert "nothing after the colon" in refusal(open_pairs, "moving_scenes:x", 16)
