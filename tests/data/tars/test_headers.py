"""Headers of tars against Python's tarfile, and whatever bytes there may be instead."""

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import tar_bytes

from clip_jax.data.tars.headers import TarWalk, parse_pax


def walk(content):
    """The walk over a tar's bytes, and what it finds as (name, content)."""
    tar = TarWalk(lambda offset, size: content[offset : offset + size], len(content))
    return tar, [(name, content[start : start + size]) for name, start, size in tar]


def by_tarfile(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = [member for member in tar if member.isfile() and not member.issparse()]
        return [(member.name, tar.extractfile(member).read()) for member in files]


NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300
).filter(lambda name: not name.endswith("/"))


@settings(deadline=None, max_examples=200)
@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=6),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_finds_the_files_that_were_put_in(members, form):
    tar, found = walk(tar_bytes(members, form))
    assert found == members
    assert tar.found
    assert not tar.damaged


def special(name, **fields):
    header = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(header, field, value)
    return header


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_passes_over_what_is_no_file(form):
    file = io.BytesIO()
    kinds = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number, kind in enumerate(kinds):
            target = "../../etc/" + "long/" * (18 if form == tarfile.USTAR_FORMAT else 40)
            tar.addfile(special(f"{number}.jpg", type=kind, linkname=target, size=3))
            content = b"%d" % number
            tar.addfile(special(f"{number}.txt", size=1), io.BytesIO(content))
        tar.addfile(special("7.txt", type=tarfile.CONTTYPE, size=1), io.BytesIO(b"7"))
    tar, found = walk(file.getvalue())
    assert found == by_tarfile(file.getvalue())
    assert [content for _, content in found] == [b"0", b"1", b"2", b"3", b"4", b"7"]
    assert not tar.damaged


def test_global_and_own_pax_headers_are_told_apart():
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "path=x"}
    ) as tar:
        for number in range(2):
            header = special(f"{number}.txt", size=5)
            header.pax_headers = {"mtime": "1.5", "comment": "a = b\nc"} if number else {}
            tar.addfile(header, io.BytesIO(b"text%d" % number))
    assert walk(file.getvalue())[1] == [("0.txt", b"text0"), ("1.txt", b"text1")]


def test_sizes_in_pax_headers_and_of_base_256():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        header = special("0.txt", size=700)
        header.pax_headers = {"size": "700"}
        tar.addfile(header, io.BytesIO(b"a" * 700))
        tar.addfile(special("1.txt", size=1), io.BytesIO(b"b"))
    assert walk(file.getvalue())[1] == [("0.txt", b"a" * 700), ("1.txt", b"b")]
    header = bytearray(special("0.txt", size=700).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (700).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content = bytes(header) + b"a" * 700 + bytes(324 + 1024)
    assert walk(content)[1] == [("0.txt", b"a" * 700)] == by_tarfile(content)


def test_a_gnu_tar_with_sparse_files(tmp_path):
    (tmp_path / "holes.jpg").write_bytes(b"")
    with open(tmp_path / "holes.jpg", "r+b") as file:
        for block in range(40):  # more holes than a header lists
            file.seek(block * 65536)
            file.write(b"data")
    (tmp_path / "1.txt").write_bytes(b"after the holes")
    for form in ("gnu", "posix"):
        command = ["tar", "--sparse", f"--format={form}", "-cf", f"{form}.tar"]
        subprocess.run([*command, "holes.jpg", "1.txt"], cwd=tmp_path, check=True)
        tar, found = walk((tmp_path / f"{form}.tar").read_bytes())
        assert found == [("1.txt", b"after the holes")]
        assert not tar.damaged


def test_checksums_over_signed_bytes():
    header = bytearray(special("ä.txt", size=1).tobuf(tarfile.GNU_FORMAT, "latin-1"))
    header[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    header[148:156] = b"%06o\0 " % signed
    content = bytes(header) + b"x" + bytes(511 + 1024)
    assert [content for _, content in walk(content)[1]] == [b"x"]


MEMBERS = [(f"{number}.txt", b"%d" % number * 600) for number in range(5)]


def test_goes_on_after_damaged_headers():
    whole = tar_bytes(MEMBERS, tarfile.GNU_FORMAT)
    stride = 512 + 1024
    for broken in range(5):
        for junk in (bytes([255]) * 512, os.urandom(512), b"ustar" * 102 + b"xx"):
            start = broken * stride
            tar, found = walk(whole[:start] + junk + whole[start + 512 :])
            assert found == [member for i, member in enumerate(MEMBERS) if i != broken]
            assert tar.damaged
            assert tar.found


def assert_sound(content):
    """Every file that is found lies inside, and no two overlap."""
    tar = TarWalk(lambda offset, size: content[offset : offset + size], len(content))
    end = 0
    for _, start, size in tar:
        assert end + 512 <= start <= start + size <= len(content)
        end = start + size
    assert tar.found or tar.damaged


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=3000))
def test_any_bytes_are_survived(content):
    assert_sound(content)


WHOLE = tar_bytes([("é" * 120 + ".jpg", b"image"), ("é" * 120 + ".txt", b"text"), ("1.jpg", b"")])


@settings(deadline=None, max_examples=400)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE) // 512 - 1), st.integers(0, 511), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_any_damage_is_survived(changes):
    """Bytes of a good tar changed, with checksums set right so that reading goes on."""
    content = bytearray(WHOLE)
    for block, place, value in changes:
        content[block * 512 + place] = value
    for start in range(0, len(content), 512):
        if content[start + 257 : start + 262] == b"ustar":
            header = content[start : start + 512]
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    assert_sound(bytes(content))


class Counted(bytes):
    """Bytes that count how many are copied out of them."""

    copied = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        Counted.copied += len(part)
        return Counted(part)


def test_pax_headers_are_read_in_one_go():
    content = Counted(b"5 a=\n" * 20_000)
    assert parse_pax(content) == {b"a": b""}
    assert Counted.copied < 10 * len(content)  # and not what is left after each field


def test_damage_in_every_other_block_is_not_searched_a_mebibyte_each_time():
    member = tar_bytes([("a.txt", b"")])[:512]
    content, read = (member + b"x" * 512) * 1000, 0

    def count(offset, size):
        nonlocal read
        read += len(content[offset : offset + size])
        return content[offset : offset + size]

    tar = TarWalk(count, len(content))
    assert len(list(tar)) == 1000
    assert tar.damaged
    assert read < 20 * len(content)
