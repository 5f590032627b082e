"""The index of tar shards against Python's tarfile, what is left out of it, and how it is kept."""

import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import encode, extracted, refusal, solid, tar_bytes, write_pairs, write_tar

from clip_jax.data.tars import index as tar_index
from clip_jax.data.tars.index import TarIndex
from clip_jax.data.tars.index_file import NAME

FIELDS = {"image": ("jpg", "png"), "caption": ("txt",)}


def keys_of(index):
    return [index.key(i) for i in range(len(index))]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_tarfile_extracts(tmp_path, form):
    long = "a" * 60 if form == tarfile.USTAR_FORMAT else "é" * 150
    names = ["0", "1", f"{long}/2", "sub/3", "./4", "v1.5/5"]
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for shift, path in enumerate(paths):
        sizes = dict(zip(names, [0, 1, 511, 512, 513, 2000], strict=True))
        members = [(f"{n}.txt", bytes([s % 251 + shift]) * s) for n, s in sizes.items()]
        members += [(f"{n}.jpg", b"j" * (s // 2)) for n, s in sizes.items()]
        path.write_bytes(tar_bytes(members, form))
    index = TarIndex([str(path) for path in paths], FIELDS)
    captions, images = extracted(paths, "txt"), extracted(paths, "jpg")
    assert len(index) == len(captions) == 12
    for i in reversed(range(12)):
        assert index.read(i, "caption") == captions[index.describe(i) + ".txt"]
        assert index.read(i, "image") == images[index.describe(i) + ".jpg"]


def test_a_sample_is_what_shares_a_name_up_to_the_first_dot(tmp_path):
    members = [
        ("dir.v1/cat.JPG", b"image"),
        ("dir.v1/cat.seg.png", b"mask"),
        ("dir.v1/cat.seg.txt", b"caption of the mask"),
        ("dir.v2/cat.txt", b"elsewhere"),
        ("dir.v1/cat.txt", b"caption"),
        ("._cat.jpg", b"resource fork"),
        ("readme", b"no extension"),
    ]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert keys_of(index) == ["dir.v1/cat"]
    assert (index.read(0, "image"), index.read(0, "caption")) == (b"image", b"caption")
    assert index.describe(0) == f"{tmp_path}/a.tar:dir.v1/cat"


def test_only_files_count(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [
            ("0.jpg", tarfile.DIRTYPE),
            ("1.jpg", tarfile.SYMTYPE),
            ("2.jpg", tarfile.LNKTYPE),
            ("3.jpg", tarfile.FIFOTYPE),
        ]:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "../../etc/passwd"
            tar.addfile(header)
    for number in range(5):
        with tarfile.open(path, "a") as tar:
            (tmp_path / "caption").write_text("a caption")
            tar.add(tmp_path / "caption", f"{number}.txt")
    with tarfile.open(path, "a") as tar:
        tar.add(tmp_path / "caption", "4.jpg")
    index = TarIndex([path], FIELDS)
    assert keys_of(index) == ["4"]
    assert index.problems == {"no image": 4}


def test_incomplete_samples_are_left_out_and_counted(tmp_path):
    members = [("0.jpg", b""), ("1.txt", b""), ("2.txt", b""), ("3.txt", b""), ("3.png", b"")]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert keys_of(index) == ["3"]
    assert index.problems == {"no image": 2, "no caption": 1}


def test_the_preferred_extension_wins(tmp_path):
    members = [
        ("0.png", b"png"),
        ("0.jpg", b"jpg"),
        ("0.txt", b""),
        ("1.png", b"1"),
        ("1.txt", b""),
    ]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert [index.read(i, "image") for i in (0, 1)] == [b"jpg", b"1"]
    assert [index.extension(i, "image") for i in (0, 1)] == ["jpg", "png"]


def no_tars(tmp_path):
    """What has the name of a shard and is none."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(Path(__file__), "0.txt")
    compressed = (tmp_path / "a.tar.gz").read_bytes()
    return [b"", b"short", b"text " * 1000, encode(solid(1)), compressed]


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_tar_is_named_if_there_is_nothing_else(tmp_path, strict):
    path = tmp_path / "a.tar"
    for content in no_tars(tmp_path):
        path.write_bytes(content)
        assert f"{path}: not a readable, uncompressed tar" in refusal(
            TarIndex, [path], FIELDS, strict
        )
    assert f"{tmp_path}: not a readable" in refusal(TarIndex, [tmp_path], FIELDS, strict)


def test_what_is_no_tar_is_counted_beside_others(tmp_path):
    bad = [tmp_path / f"bad{number}.tar" for number in range(5)]
    for path, content in zip(bad, no_tars(tmp_path), strict=True):
        path.write_bytes(content)
    good = write_tar(tmp_path / "good.tar", [("0.jpg", b"image"), ("0.txt", b"caption")])
    index = TarIndex([*bad[:2], good, *bad[2:], tmp_path / "none.tar"], FIELDS)
    assert index.describe(0) == f"{good}:0"
    assert index.problems == {"unreadable shard": 6}


MEMBERS = [(f"{i}.{e}", f"{i}{e}".encode() * 140) for i in range(3) for e in ("jpg", "txt")]
WHOLE = tar_bytes(MEMBERS, tarfile.USTAR_FORMAT)
STRIDE = 512 + 1024  # from header to header: every content has 560 bytes


def test_of_a_cut_tar_the_samples_before_the_cut_are_left(tmp_path):
    path = tmp_path / "a.tar"
    used = len(MEMBERS) * STRIDE
    for length in [*range(0, used, 256), used - 1, used, used + 1]:
        path.write_bytes(WHOLE[:length])
        assert str(path) in refusal(TarIndex, [path], FIELDS, True)
        whole = sum(length >= member * STRIDE + 512 + 560 for member in range(len(MEMBERS)))
        if whole < 2:
            assert str(path) in refusal(TarIndex, [path], FIELDS)
            continue
        index = TarIndex([path], FIELDS)
        assert keys_of(index) == ["0", "1", "2"][: whole // 2]
        expected = {"damaged shard": 1} | ({"no caption": 1} if whole % 2 else {})
        assert index.problems == expected
        assert index.read_all(whole // 2 - 1) == {
            "image": MEMBERS[whole - whole % 2 - 2][1],
            "caption": MEMBERS[whole - whole % 2 - 1][1],
        }
    path.write_bytes(WHOLE[: used + 512])
    index = TarIndex([path], FIELDS, strict=True)
    assert (len(index), index.problems) == (3, {})


def test_a_damaged_header_costs_only_its_sample(tmp_path):
    damaged = bytearray(WHOLE)
    damaged[2 * STRIDE] ^= 255
    path = tmp_path / "a.tar"
    path.write_bytes(damaged)
    assert f"{path}: the tar is cut off or damaged" in refusal(TarIndex, [path], FIELDS, True)
    index = TarIndex([path], FIELDS)
    assert keys_of(index) == ["0", "2"] or keys_of(index) == ["2", "0"]
    assert index.problems == {"damaged shard": 1, "no image": 1}
    assert index.read(1, "caption") == b"2txt" * 140


@pytest.mark.parametrize("size", [10**6, 2**62, 2**80])
def test_a_size_beyond_the_file_ends_it(tmp_path, size):
    header = tarfile.TarInfo("1.jpg")
    header.size = size
    before = tar_bytes([("0.jpg", b"image"), ("0.txt", b"text")])[:2048]
    path = tmp_path / "a.tar"
    path.write_bytes(before + header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert str(path) in refusal(TarIndex, [path], FIELDS, True)
    index = TarIndex([path], FIELDS)
    assert (keys_of(index), index.problems) == (["0"], {"damaged shard": 1})


def test_of_duplicate_keys_the_first_counts(tmp_path):
    members = [(f"{key}.{e}", b"%d" % n) for n, key in enumerate("0110") for e in ("jpg", "txt")]
    members.append(("1.txt", b"a third caption alone"))
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    contents = {index.key(i): index.read_all(i) for i in range(len(index))}
    assert contents == {
        "0": {"image": b"0", "caption": b"0"},
        "1": {"image": b"1", "caption": b"1"},
    }
    assert index.problems == {"duplicate key": 3}


def choose(members):
    """What the index should hold of (name, content), told member by member."""
    first = {}
    for name, content in members:
        key, _, extension = name.partition(".")
        if any(extension in extensions for extensions in FIELDS.values()):
            first.setdefault((key, extension), content)
    samples, problems = {}, {}
    for key in dict.fromkeys(key for key, _ in first):
        found = {
            field: next((first[key, e] for e in extensions if (key, e) in first), None)
            for field, extensions in FIELDS.items()
        }
        lacking = [field for field, content in found.items() if content is None]
        if lacking:
            problems[f"no {lacking[0]}"] = problems.get(f"no {lacking[0]}", 0) + 1
        else:
            samples[key] = found
    return samples, problems


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("tar") / "any.tar"


@settings(deadline=None, max_examples=100)
@given(
    names=st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["jpg", "png", "txt", "json"])),
        max_size=20,
    )
)
def test_any_order_of_members(scratch, names):
    members = [(f"{key}.{e}", b"%d" % number) for number, (key, e) in enumerate(names)]
    index = TarIndex([write_tar(scratch, members)], FIELDS)
    samples, problems = choose(members)
    assert {index.key(i): index.read_all(i) for i in range(len(index))} == samples
    index.problems.pop("duplicate key", None)
    assert index.problems == problems
    assert keys_of(index) == list(samples)


@pytest.mark.parametrize("gap", [0, 2**20])
def test_fields_are_read_together_or_apart(tmp_path, gap):
    members = [("0.txt", b"caption"), ("0.other", bytes(gap)), ("0.jpg", b"image")]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert index.read_all(0) == {"image": b"image", "caption": b"caption"}


def test_odd_names_are_labels(tmp_path):
    names = ["../../etc/passwd", "/root/x", "a\nb", "C:\\x", "ä" * 200, " "]
    members = [(f"{name}.{e}", name.encode()) for name in names for e in ("jpg", "txt")]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert keys_of(index) == names
    assert [index.read(i, "image").decode() for i in range(len(index))] == names
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


# --- the index on disk


@pytest.fixture
def reads(monkeypatch):
    """The shards whose headers are read."""
    read, index_shard = [], tar_index.index_shard

    def spy(path, fields):
        read.append(Path(path).name)
        return index_shard(path, fields)

    monkeypatch.setattr(tar_index, "index_shard", spy)
    return read


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder for indexes of what is read-only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clip_jax"


@pytest.fixture
def shards(tmp_path, cache):
    """Three shards in two folders."""
    first = [write_pairs(tmp_path / "one" / f"{i}.tar", ["a", "b"], first=2 * i) for i in range(2)]
    return [*first, write_pairs(tmp_path / "two" / "2.tar", ["a", "b", "c"], first=4)]


PAIRS = {"image": ("png",), "caption": ("txt",)}


def contents(index):
    return [(index.describe(i), index.read_all(i)) for i in range(len(index))]


def test_headers_are_read_once(shards, reads):
    fresh = contents(TarIndex(shards, PAIRS))
    assert len(fresh) == 7
    assert contents(TarIndex(shards, PAIRS, keep=True)) == fresh
    reads.clear()
    assert contents(TarIndex(shards, PAIRS, keep=True)) == fresh
    assert contents(TarIndex(shards[1:], PAIRS, keep=True)) == fresh[2:]
    assert reads == []
    assert (shards[0].parent / NAME).is_file()
    assert (shards[2].parent / NAME).is_file()


def test_only_changed_and_new_shards_are_read_again(tmp_path, shards, reads):
    TarIndex(shards, PAIRS, keep=True)
    write_pairs(shards[1], ["other", "captions"], first=2)
    new = write_pairs(tmp_path / "one" / "new.tar", ["new"], first=9)
    reads.clear()
    index = TarIndex([*shards, new], PAIRS, keep=True)
    assert sorted(reads) == ["1.tar", "new.tar"]
    assert contents(index) == contents(TarIndex([*shards, new], PAIRS))
    reads.clear()
    TarIndex([*shards, new], PAIRS, keep=True)
    assert reads == []


def test_what_was_left_out_is_kept_too(tmp_path, cache, reads):
    bad = tmp_path / "bad.tar"
    bad.write_bytes(WHOLE[: 3 * STRIDE])
    unreadable = tmp_path / "no.tar"
    unreadable.write_bytes(b"no tar")
    for expected in (["bad.tar", "no.tar"], ["no.tar"]):  # which may be readable the next time
        reads.clear()
        index = TarIndex([bad, unreadable], FIELDS, keep=True)
        problems = {"damaged shard": 1, "no caption": 1, "unreadable shard": 1}
        assert index.problems == problems
        assert sorted(reads) == expected


def test_an_interrupted_index_goes_on_where_it_was(shards, reads, monkeypatch):
    monkeypatch.setattr(tar_index, "THREADS", 1)
    index_shard = tar_index.index_shard

    def interrupt(path, fields):
        if path == str(shards[2]):
            raise KeyboardInterrupt
        return index_shard(path, fields)

    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "index_shard", interrupt)
        with pytest.raises(KeyboardInterrupt):
            TarIndex(shards, PAIRS, keep=True)
    reads.clear()
    assert len(TarIndex(shards, PAIRS, keep=True)) == 7
    assert reads == ["2.tar"]


def test_other_fields_have_another_index(shards, reads):
    TarIndex(shards, PAIRS, keep=True)
    reads.clear()
    assert len(TarIndex(shards, {"caption": ("txt",)}, keep=True)) == 7
    assert len(reads) == 3


def test_a_damaged_index_is_made_again(shards, reads):
    fresh = contents(TarIndex(shards, PAIRS, keep=True))
    path = shards[0].parent / NAME
    whole = path.read_bytes()
    damages = [b"", b"no zip", whole[:-1], whole[: len(whole) // 2], pickle.dumps(reads)]
    for place in range(0, len(whole), 37):
        damages.append(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    for content in damages:
        path.write_bytes(content)
        assert contents(TarIndex(shards, PAIRS, keep=True)) == fresh
    path.write_bytes(b"no zip")
    reads.clear()
    TarIndex(shards, PAIRS, keep=True)
    assert sorted(reads) == ["0.tar", "1.tar"]
    assert path.read_bytes()[:2] == b"PK"


def test_the_index_of_a_read_only_folder_lies_in_the_cache(shards, cache, reads):
    for shard in shards:
        shard.parent.chmod(0o555)
    fresh = contents(TarIndex(shards, PAIRS, keep=True))
    assert not (shards[0].parent / NAME).exists()
    assert len(list(cache.iterdir())) == 2
    reads.clear()
    assert contents(TarIndex(shards, PAIRS, keep=True)) == fresh
    assert reads == []
    for shard in shards:
        shard.parent.chmod(0o755)


def test_without_any_place_to_keep_it_the_index_is_made_each_time(shards, reads, monkeypatch):
    def write_file(path, content):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr("clip_jax.data.tars.index_file.write_file", write_file)
    for _ in range(2):
        reads.clear()
        assert len(TarIndex(shards, PAIRS, keep=True)) == 7
        assert len(reads) == 3


def test_a_large_index_is_small_in_memory(tmp_path):
    """The members' bytes of a shard are not read, and a sample takes less than 100 bytes."""
    members = [(f"{i:08}.{e}", b"") for i in range(2000) for e in ("jpg", "txt")]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert len(pickle.dumps(index)) < 100 * len(index) + 2000
