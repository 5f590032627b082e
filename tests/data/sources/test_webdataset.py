"""Pairs of webdataset shards: their captions, and which shards a path names."""

import json
import pickle
import tarfile
from pathlib import Path

import pytest
from shards import encode, extracted, refusal, solid, write_pairs, write_tar

from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.webdataset import WebDatasetPairs, find_shards

CLIPART = Path("../shared/data/clipart/train")


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


def test_the_caption_s_field_of_a_json_can_be_named(tmp_path):
    content = b'{"caption": "here", "alt": ["there", "elsewhere"]}'
    members = [("0.jpg", b"image"), ("0.json", content)]
    path = str(write_tar(tmp_path / "a.tar", members))
    assert WebDatasetPairs(path).captions(0) == ("here",)
    assert WebDatasetPairs(path, FieldNames(caption="alt")).captions(0) == ("there", "elsewhere")


def test_what_is_left_out_is_counted(tmp_path):
    write_pairs(tmp_path / "0.tar", ["one", "two"])
    write_tar(tmp_path / "1.tar", [("0.jpg", b"no caption"), ("1.txt", b"no image")])
    (tmp_path / "2.tar").write_bytes(b"no tar")
    source = WebDatasetPairs(str(tmp_path))
    assert len(source) == 2
    assert source.problems == {"no caption": 1, "no image": 1, "unreadable shard": 1}


def test_a_pickled_source_reads_the_same(tmp_path):
    source = WebDatasetPairs(str(write_pairs(tmp_path / "a.tar", ["one", "two"])))
    again = pickle.loads(pickle.dumps(source))
    assert [again[i] for i in range(2)] == [source[i] for i in range(2)]
    assert again[1].image == encode(solid(1))


def test_missing_paths_are_named(tmp_path):
    write_pairs(tmp_path / "0.tar", ["caption"])
    assert f"{tmp_path}/none.tar: no such file" in refusal(find_shards, f"{tmp_path}/none.tar")
    assert f"{tmp_path}/1.tar: no such file" in refusal(find_shards, f"{tmp_path}/{{0..1}}.tar")
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
