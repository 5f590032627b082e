"""Videos in tar shards: numbered pictures or a file, in random access."""

import pickle
import sys

import numpy as np
import pytest
from shards import encode, number_of, refusal, solid, tar_bytes, write_tar

from clip_jax.data.images import load_image
from clip_jax.data.tars.clips import TarClips
from clip_jax.data.video.files import VideoFile


def clip(key, numbers, names=None, **others):
    """Members of a sample: pictures `solid(n)`, and other files by extension."""
    names = names or [f"{i:03}.png" for i in range(len(numbers))]
    pictures = [(f"{key}.{name}", encode(solid(n))) for name, n in zip(names, numbers, strict=True)]
    return [*pictures, *[(f"{key}.{name}", content) for name, content in others.items()]]


def open_clips(tmp_path, *members, **options):
    path = write_tar(tmp_path / "a.tar", [member for group in members for member in group])
    return TarClips([str(path)], "caption", ("txt", "json"), **options)


def numbers_of(clips, index):
    frames = clips.video(index).frames(range)
    return [number_of(np.asarray(load_image(frame))) for frame in frames]


def test_numbered_pictures_are_frames_in_order(tmp_path):
    clips = open_clips(
        tmp_path,
        clip("a", [3, 4, 5], txt=b"first"),
        clip("dir/b", [9, 1], ["10.jpeg", "2.PNG"], txt=b"second"),
        clip("c", [7], ["jpg"], json=b"{}", txt=b"a picture"),
    )
    assert [numbers_of(clips, i) for i in range(3)] == [[3, 4, 5], [1, 9], [7]]
    assert [clips.read(i, "caption") for i in range(3)] == [b"first", b"second", b"a picture"]
    assert clips.extension(2, "caption") == "txt"
    assert clips.describe(1) == f"{tmp_path}/a.tar:dir/b"
    assert clips.problems == {}


def test_several_shards_and_processes(tmp_path):
    paths = [
        write_tar(tmp_path / f"{shard}.tar", clip(f"s{shard}", [shard, shard + 1], txt=b"x"))
        for shard in range(5)
    ]
    clips = TarClips([str(path) for path in paths], "caption", ("txt",))
    again = pickle.loads(pickle.dumps(clips))
    assert [numbers_of(again, i) for i in range(5)] == [[i, i + 1] for i in range(5)]
    assert again.digest() == clips.digest()
    assert TarClips([str(paths[0])], "caption", ("txt",)).digest() != clips.digest()


def test_what_is_not_complete_is_left_out(tmp_path):
    clips = open_clips(
        tmp_path,
        clip("a", [1, 2], txt=b"x"),
        clip("b", [1, 2]),
        clip("c", [], txt=b"x"),
        clip("d", [5, 6], ["0.png", "0.png"], txt=b"x"),
    )
    assert len(clips) == 2
    assert numbers_of(clips, 1) == [5]
    assert clips.problems == {"no caption": 1, "no video": 1, "duplicate key": 1}


def test_numbers_too_long_are_none(tmp_path):
    clips = open_clips(tmp_path, clip("a", [1, 2], ["0.png", f"{'9' * 5000}.png"], txt=b"x"))
    assert numbers_of(clips, 0) == [1]


def test_a_video_file_comes_before_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", object())
    clips = open_clips(
        tmp_path, clip("a", [1, 2, 3], ["jpg", "000.jpg", "x.jpg"], mp4=b"film", txt=b"x")
    )
    assert clips.video(0) == VideoFile(b"film")
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install av" in refusal(open_clips, tmp_path, clip("a", [], mp4=b"film", txt=b"x"))


@pytest.mark.parametrize("strict", [False, True])
def test_damaged_shards(tmp_path, strict):
    whole = write_tar(tmp_path / "a.tar", clip("a", [1], txt=b"x"))
    cut = tmp_path / "b.tar"
    cut.write_bytes(tar_bytes([*clip("b", [2], txt=b"x"), ("c.txt", b"x" * 5000)])[:2500])
    shards = [str(whole), str(cut)]
    if strict:
        assert "b.tar: the tar is cut off" in refusal(
            lambda: TarClips(shards, "caption", ("txt",), strict=True)
        )
    else:
        clips = TarClips(shards, "caption", ("txt",))
        assert len(clips) == 2
        assert clips.problems == {"damaged shard": 1}
    assert "not a readable" in refusal(lambda: TarClips([str(tmp_path / "no.tar")], "t", ("txt",)))
