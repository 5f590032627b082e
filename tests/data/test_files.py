"""Files on disk and behind addresses, of which fsspec's memory stands for all."""

import os
import re
import sys

import fsspec
import pytest
from shards import encode, solid, tar_bytes

from clip_jax.data.files import (
    find_files,
    forward_reader,
    read_file,
    read_range,
    stamps,
    write_file,
)
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.tars.index import TarIndex
from clip_jax.errors import InputError

CONTENT = bytes(range(256)) * 100


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    """A folder on disk or in memory."""
    if request.param == "disk":
        yield str(tmp_path)
        return
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def put(path, content):
    with fsspec.open(path, "wb") as file:
        file.write(content)


def test_parts_of_files(folder):
    path = f"{folder}/a"
    write_file(path, CONTENT)
    for offset, size in [(0, 5), (300, 1000), (25_000, 0), (25_590, 100), (30_000, 5)]:
        assert read_range(path, offset, size) == CONTENT[offset : offset + size]
    with forward_reader(path) as (read, length):
        assert length == len(CONTENT)
        for offset, size in [(0, 512), (512, 512), (9000, 10), (9005, 20_000), (25_590, 100)]:
            assert read(offset, size) == CONTENT[offset : offset + size]


def test_a_stamp_changes_with_the_file(folder):
    path = f"{folder}/a"
    assert stamps([path]) == [None]
    write_file(path, b"content")
    first = stamps([path, path])
    assert first[0] == first[1] is not None
    assert stamps([path]) == first[:1]
    write_file(path, b"other content")
    assert stamps([path]) != first[:1]


def test_files_are_found(folder):
    for name in ("b.tar", "a.tar", "c10.tar", "notes.txt"):
        put(f"{folder}/{name}", b"")
    names = [f"{folder}/{name}" for name in ("a.tar", "b.tar", "c10.tar")]
    assert find_files(folder, (".tar",)) == names
    assert find_files(f"{folder}/*.tar", (".tar",)) == names
    assert find_files(f"{folder}/{{b,a}}.tar", ()) == [names[1], names[0]]
    assert find_files(names[0], ()) == [names[0]]
    for pattern, message in [
        (f"{folder}/none.tar", "none.tar: no such file or directory"),
        (f"{folder}/{{a,x}}.tar", "x.tar: no such file"),
        (f"{folder}/*.none", "no such files"),
        (f"{folder}/{{a,b.tar", "a brace is not closed"),
    ]:
        with pytest.raises(InputError, match=message):
            find_files(pattern, (".tar",))
    with pytest.raises(InputError, match=r"no \.csv or \.tsv in this directory"):
        find_files(folder, (".csv", ".tsv"))


def test_shards_in_a_bucket(monkeypatch):
    pairs = [[(f"{n}.png", encode(solid(n))), (f"{n}.txt", b"caption %d" % n)] for n in range(4)]
    put("memory://bucket/0.tar", tar_bytes(pairs[0] + pairs[1]))
    put("memory://bucket/1.tar", tar_bytes(pairs[2] + pairs[3]))
    put("memory://bucket/cut.tar", tar_bytes(pairs[0] + pairs[1])[:2500])
    source = WebDatasetPairs("memory://bucket/{0..1}.tar")
    for number in range(4):
        pair = source[number]
        assert pair.key == f"memory://bucket/{number // 2}.tar:{number}"
        assert (pair.image, pair.captions) == (encode(solid(number)), (f"caption {number}",))
    assert fsspec.filesystem("memory").exists("/bucket/.clip_jax_index.npz")
    monkeypatch.setattr("clip_jax.data.tars.index.index_shard", None)  # nothing is read again
    assert WebDatasetPairs("memory://bucket/{0..1}.tar")[3].key == source[3].key
    monkeypatch.undo()
    everything = WebDatasetPairs("memory://bucket")
    assert everything.problems == {"damaged shard": 1}
    assert len(everything) == 5
    fsspec.filesystem("memory").store.clear()


def test_members_are_fetched_by_ranges(monkeypatch):
    system = fsspec.filesystem("memory")
    members = [("0.jpg", b"image" * 1000), ("0.txt", b"caption"), ("1.jpg", b""), ("1.txt", b"")]
    put("memory://ranges/a.tar", tar_bytes(members))
    index = TarIndex(["memory://ranges/a.tar"], {"image": ("jpg",), "caption": ("txt",)})
    fetched = []
    cat_file = type(system).cat_file

    def spy(self, path, start=None, end=None, **options):
        fetched.append(end - start)
        return cat_file(self, path, start, end, **options)

    monkeypatch.setattr(type(system), "cat_file", spy)
    assert index.read_all(0) == {"image": b"image" * 1000, "caption": b"caption"}
    assert index.read(0, "caption") == b"caption"
    assert fetched == [5000 + 120 + 512 + 7, 7]
    system.store.clear()


def test_a_bucket_s_own_errors_are_os_errors(monkeypatch):
    system = type(fsspec.filesystem("memory"))
    put("memory://failing/good.tar", tar_bytes([("0.jpg", b"image"), ("0.txt", b"caption")]))
    put("memory://failing/bad.tar", b"")
    opened, fields = system._open, {"image": ("jpg",), "caption": ("txt",)}

    def fail(self, path, *arguments, **options):
        if "bad" in path:
            raise RuntimeError("the connection was reset")
        return opened(self, path, *arguments, **options)

    monkeypatch.setattr(system, "_open", fail)
    index = TarIndex([f"memory://failing/{name}.tar" for name in ("good", "bad")], fields)
    assert (len(index), index.problems) == (1, {"unreadable shard": 1})
    monkeypatch.setattr(system, "cat_file", fail)
    with pytest.raises(OSError, match=r"bad\.tar: RuntimeError: the connection was reset"):
        read_range("memory://failing/bad.tar", 0, 3)
    for method in ("isdir", "glob", "ls", "pipe_file"):
        monkeypatch.setattr(system, method, fail)
    for bad in ("memory://bad", "memory://bad/*.tar"):
        with pytest.raises(OSError, match=rf"{re.escape(bad)}.*RuntimeError: the connection"):
            find_files(bad, (".tar",))
    with pytest.raises(OSError, match="bad/a: RuntimeError: the connection was reset"):
        write_file("memory://bad/a", b"")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda path: fail(None, path))
    with pytest.raises(OSError, match=r"memory://bad: RuntimeError: the connection was reset"):
        find_files("memory://bad", (".tar",))
    monkeypatch.undo()
    fsspec.filesystem("memory").store.clear()


def test_unknown_and_missing_systems_are_refused_in_one_line(monkeypatch):
    for path in ("nowhere://bucket/a.tar", "nowhere://bucket/{0..3}.tar"):
        with pytest.raises(InputError, match="nowhere") as caught:
            WebDatasetPairs(path)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match="pip install fsspec, with gcsfs for gs://") as caught:
        WebDatasetPairs("gs://bucket/a.tar")
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(str(tmp_path / "a"), b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..9999999999999999}.tar",
        "{1..2000}{1..2000}",
        "{a,b}" * 25,
        "{1..10}" * 8,
        "{a,{b,c}}" * 11,
    ],
)
def test_patterns_for_too_many_files_are_refused_before_they_are_made(pattern):
    with pytest.raises(InputError, match="stands for more than 1,000,000 files"):
        find_files(pattern, (".tar",))


def test_devices_and_pipes_are_not_read(tmp_path):
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("endless.jpg", "pipe.jpg"):
        with pytest.raises(OSError, match="not a file"):
            read_file(str(tmp_path / name))


def test_ranges_beyond_the_end_take_no_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"0123")
    assert read_range(str(tmp_path / "file"), 2, 2**62) == b"23"
    assert read_range(str(tmp_path / "file"), 9, 2**62) == b""


def test_patterns_that_are_no_path_are_refused():
    for pattern in ("a/*" * 20_000, "{" * 20_000):
        with pytest.raises(InputError, match="characters are no path"):
            find_files(pattern, (".tar",))
