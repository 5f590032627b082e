"""Videos in folders, shards and tables: the same frames and captions from each."""

import os
import shutil
import sys

import numpy as np
import pytest
from shards import encode, number_of, refusal, solid, write_tar

from clip_jax.data.images import load_image
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.spec import open_captioned, open_labelled, open_pairs
from clip_jax.data.sources.videos import FolderVideos, find_videos, frame_names, open_class_videos

CLIPS = {"run/a": [1, 2, 3], "run/b": [4, 5], "high_jump/x/c": [6, 7, 8, 9]}


def write_frames(folder, numbers):
    folder.mkdir(parents=True)
    for i, number in enumerate(numbers):
        (folder / f"frame{i + 8}.png").write_bytes(encode(solid(number)))


@pytest.fixture
def root(tmp_path):
    for name, numbers in CLIPS.items():
        write_frames(tmp_path / "clips" / name, numbers)
    return tmp_path / "clips"


def numbers_of(video):
    return [number_of(np.asarray(load_image(frame))) for frame in video.frames(range)]


def pairs_of(source):
    return [(numbers_of(source[i].image), source[i].captions) for i in range(len(source))]


def test_frames_are_in_the_order_of_their_numbers():
    names = ["f10.jpg", "f2.jpg", "f2.txt", "f1.png", ".f0.jpg", "b.webp", "3.jpg"]
    assert frame_names(names) == ["3.jpg", "b.webp", "f1.png", "f2.jpg", "f10.jpg"]
    assert frame_names(["1²2.jpg", "1²1.jpg", "².jpg"]) == ["1²1.jpg", "1²2.jpg", "².jpg"]


def test_folders_of_frames_by_class(root):
    source = FolderVideos(str(root), FieldNames(templates=("a {c}.",)))
    assert pairs_of(source) == [
        ([6, 7, 8, 9], ("a high jump.",)),
        ([1, 2, 3], ("a run.",)),
        ([4, 5], ("a run.",)),
    ]
    assert source[1].key == str(root / "run" / "a")
    assert source.problems == {}


def test_folders_of_frames_with_texts_beside_them(root):
    (root / "run" / "a.txt").write_text("someone runs\n")
    (root / "high_jump" / "x" / "c.txt").write_text("someone jumps")
    source = open_pairs(f"folder:{root}", 16, frames=4)
    assert pairs_of(source) == [
        ([6, 7, 8, 9], ("someone jumps",)),
        ([1, 2, 3], ("someone runs",)),
    ]
    assert source.problems == {"no caption": 1}


def test_tables_of_paths(root, tmp_path):
    (tmp_path / "t.csv").write_text("filepath\ttitle\nclips/run/b\truns\nclips/run/a\truns too\n")
    source = open_pairs(f"csv:{tmp_path / 't.csv'}", 16, frames=4)
    assert pairs_of(source) == [([4, 5], ("runs",)), ([1, 2, 3], ("runs too",))]
    shutil.rmtree(root / "run" / "b")
    with pytest.raises(OSError, match="b"):
        source[0]


def members(key, numbers, **texts):
    frames = [(f"{key}.{i:02}.jpg", encode(solid(n), "png")) for i, n in enumerate(numbers)]
    return frames + [(f"{key}.{name}", text.encode()) for name, text in texts.items()]


def test_shards(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [*members("a", [1, 2], txt="one"), *members("b", [3], json='{"caption": ["two", "2"]}')],
    )
    source = open_pairs(f"wds:{path}", 16, frames=4)
    assert pairs_of(source) == [([1, 2], ("one",)), ([3], ("two", "2"))]
    write_tar(tmp_path / "b.tar", members("a", [1, 2]))
    assert "no sample with a video" in refusal(
        lambda: open_pairs(f"wds:{tmp_path}/b.tar", 16, frames=4)
    )


def test_pictures_of_other_kinds_are_left_to_be_videos_of_one_frame():
    assert isinstance(open_pairs("scenes:", 16, frames=4)[0].image, np.ndarray)


def test_a_classification_set_of_folders(root):
    data = open_labelled(f"folder:{root}", 16, frames=4)
    assert data.classnames == ["high jump", "run"]
    assert data.labels.tolist() == [0, 1, 1]
    assert [numbers_of(data.images[i]) for i in range(3)] == [[6, 7, 8, 9], [1, 2, 3], [4, 5]]


def test_sets_in_the_field_s_layout(tmp_path):
    (tmp_path / "test").mkdir()
    samples = [("a", [1, 2], 1), ("b", [3], 0)]
    files = [
        m
        for key, numbers, label in samples
        for m in members(key, numbers, cls=str(label), txt=f"{key}\n{label}")
    ]
    write_tar(tmp_path / "test" / "0.tar", files)
    for name, text in {
        "test/nshards.txt": "1",
        "classnames.txt": "cat\ndog",
        "zeroshot_classification_templates.txt": "a {c}",
    }.items():
        (tmp_path / name).write_text(text)
    data = open_labelled(f"wds:{tmp_path}", 16, frames=4)
    assert data.labels.tolist() == [1, 0]
    assert [numbers_of(data.images[i]) for i in range(2)] == [[1, 2], [3]]
    (tmp_path / "dataset_type.txt").write_text("retrieval")
    data = open_captioned(f"wds:{tmp_path}", 16, frames=4)
    assert data.captions == [["a", "1"], ["b", "0"]]
    assert numbers_of(data.images[0]) == [1, 2]


def test_pictures_beside_video_files_are_no_frames(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", object())
    write_frames(tmp_path / "run" / "anna", [1, 2])
    (tmp_path / "run" / "anna" / "b.mp4").write_bytes(b"film")
    write_frames(tmp_path / "run" / "anna" / "c", [3])
    videos, _ = find_videos(str(tmp_path))
    assert videos == ["run/anna/b.mp4", "run/anna/c"]


def test_what_has_no_videos_or_no_captions(tmp_path, root):
    (tmp_path / "empty").mkdir()
    assert "no folders of videos" in refusal(
        open_class_videos, str(tmp_path / "empty"), FieldNames()
    )
    write_frames(tmp_path / "flat" / "a", [1, 2])
    assert "none of its 1 videos" in refusal(FolderVideos, str(tmp_path / "flat"), FieldNames())


def test_video_files_need_pyav_when_a_source_is_opened(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.MP4").write_bytes(b"film")
    (tmp_path / "t.csv").write_text("filepath\ttitle\nrun/a.MP4\truns\n")
    monkeypatch.setitem(sys.modules, "av", None)
    for spec in (f"folder:{tmp_path}", f"csv:{tmp_path}/t.csv"):
        assert "pip install av" in refusal(lambda spec=spec: open_pairs(spec, 16, frames=4))
    monkeypatch.setitem(sys.modules, "av", object())
    source = open_pairs(f"folder:{tmp_path}", 16, frames=4)
    assert source[0].image.content == b"film"
    assert os.path.basename(source[0].key) == "a.MP4"
