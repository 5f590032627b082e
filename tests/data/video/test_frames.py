"""Which frames of a video are read, and that all of them are changed alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import encode, number_of, smooth, solid

from clip_jax.data.augment import Augment
from clip_jax.data.images import Resize
from clip_jax.data.video.frames import (
    Frames,
    as_video,
    middle_frames,
    random_frames,
    resize_video,
    still_of,
)


def film(total):
    """A video of which frame i is picture `solid(i)`."""
    return Frames(total, lambda number: encode(solid(number)))


def test_evaluation_reads_the_middle_of_equal_parts():
    assert middle_frames(100, 4) == [12, 37, 62, 87]
    assert middle_frames(9, 3) == [1, 4, 7]
    assert middle_frames(4, 4) == [0, 1, 2, 3]
    assert middle_frames(2, 4) == [0, 0, 1, 1]
    assert middle_frames(1, 3) == [0, 0, 0]
    assert middle_frames(5, 1) == [2]


@settings(deadline=None, max_examples=200)
@given(total=st.integers(1, 1000), count=st.integers(1, 32), seed=st.integers(0, 999))
def test_training_reads_one_frame_of_each_part(total, count, seed):
    chosen = random_frames(total, count, np.random.default_rng(seed))
    assert len(chosen) == count
    for part, number in enumerate(chosen):
        assert 0 <= number < total
        assert part * total // count <= number <= (part + 1) * total / count
    assert chosen == random_frames(total, count, np.random.default_rng(seed))


def test_in_training_every_frame_of_a_part_is_as_likely():
    rng = np.random.default_rng(0)
    seen = np.array([random_frames(12, 3, rng) for _ in range(4000)])
    for part in range(3):
        numbers, times = np.unique(seen[:, part], return_counts=True)
        assert numbers.tolist() == [4 * part + i for i in range(4)]
        assert (abs(times - 1000) < 120).all()


@pytest.mark.parametrize("choose", [middle_frames, lambda t, c: random_frames(t, c, None)])
def test_a_video_without_frames_is_refused(choose):
    with pytest.raises(ValueError, match="without frames"):
        choose(0, 4)


def test_pixels_for_evaluation():
    pixels = resize_video(film(8), Resize(6), 4)
    assert pixels.shape == (4, 6, 6, 3)
    assert [number_of(frame) for frame in pixels] == middle_frames(8, 4)
    stills = resize_video(as_video(encode(solid(5))), Resize(6), 3)
    assert [number_of(frame) for frame in stills] == [5, 5, 5]


def test_only_frames_that_are_asked_for_are_read():
    asked = []
    video = Frames(1000, lambda number: asked.append(number) or encode(solid(number)))
    resize_video(video, Resize(6), 2)
    assert asked == [250, 750]


def test_a_still_to_show():
    assert number_of(np.asarray(resize_video(as_video(still_of(film(9))), Resize(6), 1)[0])) == 4
    picture = encode(solid(3))
    assert still_of(picture) is picture


@pytest.mark.parametrize("flip", [False, True])
def test_all_frames_of_a_training_clip_are_cropped_and_mirrored_alike(flip):
    picture = encode(smooth((40, 30)), "png")
    video = Frames(20, lambda number: picture)
    augment, clips = Augment(min_crop_area=0.2, flip=flip), []
    for seed in range(8):
        clip = augment.video(video, 4, Resize(12), np.random.default_rng(seed))
        assert clip.shape == (4, 12, 12, 3)
        assert (clip == clip[:1]).all()
        clips.append(clip[0])
    assert len(np.unique(np.stack(clips), axis=0)) == 8


def test_training_clips_depend_on_the_generator_alone():
    first, second = (
        Augment().video(film(50), 5, Resize(6), np.random.default_rng(7)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    other = Augment().video(film(50), 5, Resize(6), np.random.default_rng(8))
    assert [number_of(f) for f in first] != [number_of(f) for f in other]
