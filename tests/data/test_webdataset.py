"""The tar index against Python's tarfile, and what damaged or unfit shards get."""

import json
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import encode, solid, tar_bytes, write_pairs, write_tar

from clip_jax.data.webdataset import TarIndex, WebDatasetPairs, find_shards
from clip_jax.errors import InputError

FIELDS = {"image": ("jpg", "png"), "caption": ("txt",)}
CLIPART = Path("../shared/data/clipart/train")


def refusal(call, *arguments):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def extracted(paths, extension):
    """Content by name of all files with an extension, as tarfile extracts them."""
    found = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.isfile() and member.name.endswith(f".{extension}"):
                    found[f"{path}:{member.name}"] = tar.extractfile(member).read()
    return found


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
    index = TarIndex(paths, FIELDS)
    captions, images = extracted(paths, "txt"), extracted(paths, "jpg")
    assert len(index) == len(captions) == 12
    for i in reversed(range(12)):
        assert index.read(i, "caption") == captions[index.describe(i) + ".txt"]
        assert index.read(i, "image") == images[index.describe(i) + ".jpg"]


def test_real_shards_read_as_tarfile_extracts():
    if not CLIPART.is_dir():
        pytest.skip(f"{CLIPART} is not there")
    source = WebDatasetPairs(str(CLIPART))
    assert len(source) == 2323
    captions = extracted(sorted(CLIPART.glob("*.tar")), "txt")
    for index in range(0, len(source), 7):
        pair = source[index]
        assert pair.captions == source.captions(index)
        assert pair.captions == (captions[f"{pair.key}.txt"].decode().strip(),)
    with tarfile.open(CLIPART / "clipart-00003.tar") as tar:
        last = source[2322]
        name = next(n for n in tar.getnames()[::-1] if n.endswith(("jpg", "png", "webp")))
        assert last.image == tar.extractfile(name).read()


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
    assert index.keys == ["dir.v1/cat"]
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
    assert index.keys == ["4"]
    assert index.incomplete == {"image": 4, "caption": 0}


def test_incomplete_samples_are_left_out_and_counted(tmp_path):
    members = [("0.jpg", b""), ("1.txt", b""), ("2.txt", b""), ("3.txt", b""), ("3.png", b"")]
    index = TarIndex([write_tar(tmp_path / "a.tar", members)], FIELDS)
    assert index.keys == ["3"]
    assert index.incomplete == {"image": 2, "caption": 1}


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


def captions_of(tmp_path, *captions):
    """The captions that pairs get from (extension, content)."""
    members = []
    for number, files in enumerate(captions):
        members.append((f"{number}.jpg", b"image"))
        members += [(f"{number}.{extension}", content) for extension, content in files.items()]
    source = WebDatasetPairs(str(write_tar(tmp_path / "a.tar", members)))
    assert [source[i].captions for i in range(len(source))] == [
        source.captions(i) for i in range(len(source))
    ]
    return [source.captions(i) for i in range(len(source))]


def test_captions_from_txt_and_json(tmp_path):
    object_with = {"caption": " from json ", "url": "x"}
    captions = captions_of(
        tmp_path,
        {"txt": b" from txt\n"},
        {"json": json.dumps(object_with).encode()},
        {"json": json.dumps(object_with).encode(), "txt": b"txt first"},
        {"txt": "größe ☃".encode()},
        {"txt": b"broken \xff utf-8"},
        {"txt": b" \n"},
        {"json": b'{"caption": ["one ", "", 3, "two"]}'},
    )
    assert captions == [
        ("from txt",),
        ("from json",),
        ("txt first",),
        ("größe ☃",),
        ("broken � utf-8",),
        (),
        ("one", "two"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"caption"',
        b'{"text": "other"}',
        b'{"caption": null}',
        b'{"caption": []}',
        b'{"caption": {"en": "nested"}}',
        b'{"caption": 7}',
        b"9" * 5000,
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_json_without_a_caption_gives_none(tmp_path, content):
    assert captions_of(tmp_path, {"json": content}, {"txt": b"other"}) == [(), ("other",)]


def test_directories_and_brace_globs(tmp_path):
    for number in range(12):
        write_pairs(tmp_path / f"part-{number:02}.tar", ["caption"], first=number)
    (tmp_path / "notes.txt").write_text("not a shard")
    names = [f"{tmp_path}/part-{number:02}.tar" for number in range(12)]
    assert find_shards(str(tmp_path)) == names
    assert find_shards(f"{tmp_path}/part-{{02..10}}.tar") == names[2:11]
    assert find_shards(f"{tmp_path}/part-{{00,07}}.tar") == [names[0], names[7]]
    assert find_shards(names[5]) == [names[5]]
    keys = [WebDatasetPairs(str(tmp_path))[i].key for i in range(12)]
    assert keys == [f"{name}:{number:06}" for number, name in enumerate(names)]


def test_a_pickled_source_reads_the_same(tmp_path):
    source = WebDatasetPairs(str(write_pairs(tmp_path / "a.tar", ["one", "two"])))
    again = pickle.loads(pickle.dumps(source))
    assert [again[i] for i in range(2)] == [source[i] for i in range(2)]
    assert again[1].image == encode(solid(1))


def test_missing_paths_are_named(tmp_path):
    write_pairs(tmp_path / "0.tar", ["caption"])
    assert f"{tmp_path}/none.tar: no such file" in refusal(find_shards, f"{tmp_path}/none.tar")
    assert f"{tmp_path}/1.tar: no such file" in refusal(find_shards, f"{tmp_path}/{{0..1}}.tar")
    assert f"{tmp_path}/none.tar: no such" in refusal(TarIndex, [tmp_path / "none.tar"], FIELDS)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: no .tar" in refusal(find_shards, f"{tmp_path}/empty")
    assert "x{0..1.tar: a brace is not closed" in refusal(find_shards, "x{0..1.tar")


def test_unfit_shards_are_named(tmp_path):
    pictures = [(f"{i}.png", encode(solid(i))) for i in range(3)]
    no_caption = write_tar(tmp_path / "pictures.tar", pictures)
    message = refusal(WebDatasetPairs, str(no_caption))
    assert message.startswith(f"{no_caption}: ")
    assert message.endswith("most lack the caption")
    no_image = write_tar(tmp_path / "texts.tar", [("0.txt", b"caption"), ("0.gif", b"image")])
    message = refusal(WebDatasetPairs, str(no_image))
    assert message.startswith(f"{no_image}: ")
    assert message.endswith("most lack the image")
    empty = write_tar(tmp_path / "empty.tar", [])
    assert refusal(WebDatasetPairs, str(empty)).startswith(f"{empty}: no sample")


def test_what_is_no_tar_is_named(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(Path(__file__), "0.txt")
    compressed = (tmp_path / "a.tar.gz").read_bytes()
    for content in (b"", b"short", b"text " * 1000, encode(solid(1)), compressed):
        path.write_bytes(content)
        assert f"{path}: not a readable, uncompressed tar" in refusal(TarIndex, [path], FIELDS)
    assert f"{tmp_path}: not a readable" in refusal(TarIndex, [tmp_path], FIELDS)


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    members = [(f"{i}.{e}", bytes(700)) for i in range(3) for e in ("jpg", "txt")]
    whole = tar_bytes(members, tarfile.USTAR_FORMAT)
    path = tmp_path / "a.tar"
    used = len(members) * (512 + 1024)
    for length in [*range(0, used, 256), used - 1, used, used + 1]:
        path.write_bytes(whole[:length])
        assert str(path) in refusal(TarIndex, [path], FIELDS)
    path.write_bytes(whole[: used + 512])
    assert len(TarIndex([path], FIELDS)) == 3


def test_a_damaged_header_does_not_hide_what_follows(tmp_path):
    members = [(f"{i}.{e}", bytes(700)) for i in range(3) for e in ("jpg", "txt")]
    damaged = bytearray(tar_bytes(members, tarfile.USTAR_FORMAT))
    damaged[2 * (512 + 1024)] ^= 255
    path = tmp_path / "a.tar"
    path.write_bytes(damaged)
    assert f"{path}: the tar is cut off or damaged" in refusal(TarIndex, [path], FIELDS)


@pytest.mark.parametrize("size", [10**6, 2**62, 2**80])
def test_a_size_beyond_the_file_is_refused(tmp_path, size):
    header = tarfile.TarInfo("0.jpg")
    header.size = size
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert str(path) in refusal(TarIndex, [path], FIELDS)


def open_and_read(path):
    index = TarIndex([path], FIELDS)
    return [index.read(i, field) for i in range(len(index)) for field in FIELDS]


def assert_read_or_refused(path, content):
    path.write_bytes(content)
    message = None
    try:
        open_and_read(path)
    except InputError as error:
        message = str(error)
    assert message is None or (str(path) in message and "\n" not in message)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("tar") / "fuzzed.tar"


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(scratch, content):
    assert_read_or_refused(scratch, content)


WHOLE = tar_bytes([("é" * 120 + ".jpg", b"image"), ("é" * 120 + ".txt", b"text"), ("1.jpg", b"")])


@settings(deadline=None, max_examples=400)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE) // 512 - 1), st.integers(0, 511), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_any_damage_is_read_or_refused(scratch, changes):
    """Bytes of a good tar changed, with checksums set right so that tarfile goes on reading."""
    content = bytearray(WHOLE)
    for block, place, value in changes:
        content[block * 512 + place] = value
    for start in range(0, len(content), 512):
        if content[start + 257 : start + 262] == b"ustar":
            header = content[start : start + 512]
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    assert_read_or_refused(scratch, content)
