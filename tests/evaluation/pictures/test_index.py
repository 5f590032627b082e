"""The index on disk: whatever happens to a folder, it holds what one built from scratch would."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.data.sources.folder import find_pictures
from clip_jax.errors import InputError
from clip_jax.evaluation.pictures import index as index_module
from clip_jax.evaluation.pictures.index import About, PictureIndex

WIDTH = 4


def row_of(content):
    """A unit row that tells the content of a file."""
    row = np.random.default_rng(int(content)).normal(size=WIDTH)
    return (row / np.linalg.norm(row)).astype(np.float32)


class Embed:
    """Rows of files that hold a number; one that holds "bad" is unreadable."""

    def __init__(self, parts=10**9):
        self.seen, self._parts = [], parts

    def __call__(self, images):
        if self._parts == 0:
            raise KeyboardInterrupt
        self._parts -= 1
        contents = [images[i].decode() for i in range(len(images))]
        self.seen += contents
        good = [i for i, content in enumerate(contents) if content != "bad"]
        rows = [row_of(contents[i]) for i in good]
        return np.array(rows, np.float32).reshape(-1, WIDTH), np.array(good, int)


def put(root, files, clock):
    """Make a folder hold exactly these files; those that changed get a new time."""
    for name in {path.name for path in root.iterdir()} - set(files):
        (root / name).unlink()
    for name, content in files.items():
        path = root / name
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            os.utime(path, ns=(clock, clock))


def create(folder, root):
    return PictureIndex.create(folder, About(str(root), "model", WIDTH))


def update(index, embed):
    index.add(index.drop_stale(find_pictures(index.about.root)), embed)


def content_of(index):
    """{path: row}, and the unreadable paths; as another process finds them."""
    index = PictureIndex.open(index.folder)
    rows = {Path(index.file(i)).name: tuple(index.rows[i].tolist()) for i in range(len(index))}
    return rows, sorted(Path(path).name for path in index.unreadable)


def expected(files):
    rows = {
        name: tuple(row_of(content).astype(np.float16).tolist())
        for name, content in files.items()
        if content != "bad"
    }
    return rows, sorted(name for name, content in files.items() if content == "bad")


contents = st.sampled_from(["1", "2", "3", "bad"])
states = st.dictionaries(st.sampled_from([f"{c}.jpg" for c in "abcdefgh"]), contents, min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(states, st.none() | st.integers(0, 3)), min_size=1, max_size=6), states)
def test_any_history_equals_building_from_scratch(history, last):
    """History: what the folder holds, and after how many parts an update is interrupted."""
    with TemporaryDirectory() as folder, patch.object(index_module, "PART", 2):
        root = Path(folder, "pictures")
        root.mkdir()
        index = create(Path(folder, "index"), root)
        for clock, (files, parts) in enumerate([*history, (last, None)], 1):
            put(root, files, clock * 10**9)
            before, embed = index, Embed(10**9 if parts is None else parts)
            try:
                update(PictureIndex.open(before.folder), embed)
            except KeyboardInterrupt:
                rows, unreadable = content_of(index)
                assert rows.items() <= expected(files)[0].items()
                assert len(rows) + len(unreadable) >= len(embed.seen)  # all that was embedded
            else:
                assert content_of(index) == expected(files)
        assert len(list(index.folder.iterdir())) == 4


@pytest.fixture
def built(tmp_path):
    """An index of a.jpg, b.jpg, c.jpg and an unreadable d.jpg."""
    root = tmp_path / "pictures"
    root.mkdir()
    put(root, {"a.jpg": "1", "b.jpg": "2", "c.jpg": "3", "d.jpg": "bad"}, 10**9)
    index = create(tmp_path / "index", root)
    update(index, Embed())
    return root, index


def test_only_what_is_new_or_changed_is_embedded(built):
    root, index = built
    put(root, {"a.jpg": "1", "b.jpg": "5", "d.jpg": "bad", "e.jpg": "6"}, 2 * 10**9)
    embed = Embed()
    update(index, embed)
    assert sorted(embed.seen) == ["5", "6"]
    update(index, embed)
    assert len(embed.seen) == 2
    assert content_of(index) == expected({"a.jpg": "1", "b.jpg": "5", "d.jpg": "bad", "e.jpg": "6"})


def test_half_written_parts_are_overwritten(built):
    root, index = built
    before = content_of(index)
    with open(index.folder / "rows-0.f16", "ab") as file:
        file.write(b"half of a row")
    with open(index.folder / "files-0.jsonl", "ab") as file:
        file.write(b'["half of a li')
    assert content_of(index) == before
    (root / "e.jpg").write_text("7")
    update(PictureIndex.open(index.folder), Embed())
    assert content_of(index)[0] == before[0] | expected({"e.jpg": "7"})[0]


def test_rows_are_mapped_and_in_half_precision(built):
    _, index = built
    assert isinstance(index.rows, np.memmap)
    assert (index.rows.dtype, index.rows.shape) == (np.float16, (3, WIDTH))


def test_names_of_any_bytes(tmp_path):
    os.mkdir(tmp_path / "pictures")
    with open(os.fsencode(tmp_path) + b"/pictures/caf\xe9.jpg", "w") as file:
        file.write("1")
    index = create(tmp_path / "index", tmp_path / "pictures")
    update(index, Embed())
    assert Path(PictureIndex.open(index.folder).file(0)).read_text() == "1"


def test_what_is_no_index_is_refused(built, tmp_path):
    _, index = built
    with open(index.folder / "unreadable-0.jsonl", "a") as file:
        file.write("no line of ours\n")
    with pytest.raises(InputError, match="damaged; delete it"):
        update(PictureIndex.open(index.folder), Embed())
    with pytest.raises(InputError, match="no index; --images FOLDER builds one"):
        PictureIndex.open(tmp_path / "none")
    os.truncate(index.folder / "rows-0.f16", 5)
    with pytest.raises(InputError, match="damaged; delete it"):
        PictureIndex.open(index.folder)
    about = (index.folder / "index.json").read_text()
    (index.folder / "index.json").write_text(about.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="another version; delete it"):
        PictureIndex.open(index.folder)
    (index.folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="damaged; delete it"):
        PictureIndex.open(index.folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", "[" * 100_000),
        ("index.json", '{"root": 7, "model": "model", "width": 4}'),
        ("index.json", '{"root": "a", "model": "model", "width": -4}'),
        ("index.json", '{"root": "a", "model": "model", "width": 4, "generation": "../0"}'),
        ("files-0.jsonl", "[1, 2]\n"),
        ("files-0.jsonl", '["a.png"]\n'),
        ("files-0.jsonl", "[" * 100_000 + "\n"),
    ],
)
def test_what_others_wrote_is_refused(built, name, content):
    _, index = built
    (index.folder / name).write_text(content)
    with pytest.raises(InputError, match="damaged; delete it"):
        PictureIndex.open(index.folder).file(0)
