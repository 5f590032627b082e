"""Signatures are made once, go on where they stopped, and are made again of data that changed."""

import pytest
from drawings import as_png, drawing
from shards import encode, solid, write_pairs

from clip_jax.evaluation.analyses.overlap import signature_file
from clip_jax.evaluation.analyses.overlap.signature import make_signature
from clip_jax.evaluation.analyses.overlap.signature_file import (
    FAILED,
    MADE,
    identity_of,
    read_signatures,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Pictures:
    """Five drawings, the third damaged; counts what is read, and may fail."""

    def __init__(self, stop_at=None):
        self.reads, self._stop_at = [], stop_at

    def __call__(self, number):
        if number == self._stop_at:
            raise KeyboardInterrupt
        self.reads.append(number)
        return b"damaged" if number == 2 else as_png(drawing(number))


def test_each_picture_has_its_signature():
    rows = read_signatures("a", 5, Pictures())
    assert rows["state"].tolist() == [MADE, MADE, FAILED, MADE, MADE]
    for number in (0, 1, 3, 4):
        assert rows["signature"][number] == make_signature(as_png(drawing(number)))
    assert not rows["signature"][2]["grey"].any()
    with pytest.raises(ValueError, match="read-only"):
        rows["state"][0] = 0


def test_they_are_made_once_for_each_state_of_the_data():
    read_signatures("a", 5, Pictures())
    again, other = Pictures(), Pictures()
    read_signatures("a", 5, again)
    read_signatures("b", 5, other)
    assert again.reads == []
    assert sorted(other.reads) == [0, 1, 2, 3, 4]


def test_what_was_stopped_goes_on(monkeypatch):
    monkeypatch.setattr(signature_file, "BLOCK", 2)
    with pytest.raises(KeyboardInterrupt):
        read_signatures("a", 5, Pictures(stop_at=3))
    rest, done = Pictures(), []
    rows = read_signatures("a", 5, rest, done.append)
    assert set(rest.reads) >= {3, 4}
    assert not set(rest.reads) & {0, 1}
    assert sum(done) == 5
    assert (rows["state"] > 0).all()


def test_the_identity_changes_with_the_files(tmp_path):
    shard = write_pairs(tmp_path / "a.tar", ["one", "two"])
    before = identity_of(str(shard))
    assert identity_of(str(shard)) == before
    write_pairs(shard, ["one", "two", "three"])
    assert identity_of(str(shard)) != before
    folder = tmp_path / "pictures" / "cat"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(encode(solid(1)))
    before = identity_of(f"folder:{folder.parent}")
    (folder / "2.png").write_bytes(encode(solid(2)))
    assert identity_of(f"folder:{folder.parent}") != before
