"""What inspect finds, against what was put in."""

import io

import numpy as np
import PIL.Image
import pytest
from rich.console import Console
from shards import encode, smooth, solid, write_pairs

from clip_jax.data.__main__ import run
from clip_jax.data.samples import Pair
from clip_jax.data.sheet import COLUMNS, draw_sheet
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.data.tools.inspect import inspect_pairs, print_findings
from clip_jax.errors import InputError

PAIRS = [
    (encode(smooth((30, 20)), "jpeg"), ("one two three",)),
    (encode(solid(1, (50, 40))), ("one", "a $b^2$ of ☃")),
    (encode(solid(2, (10, 10))), ()),
    (b"not an image", ("one",)),
    (b"not an image", ()),
    (np.zeros((7, 9, 3), np.uint8), ("generated",)),
    (OSError("gone"), ()),
]


class Given:
    """Pairs as listed."""

    def __init__(self):
        self.problems = {"damaged shard": 2}

    def __len__(self):
        return len(PAIRS)

    def __getitem__(self, index):
        image, captions = PAIRS[index]
        if isinstance(image, OSError):
            raise image
        return Pair(str(index), image, captions)


def words(caption):
    return len(caption.split())


def printed(findings, *arguments):
    file = io.StringIO()
    print_findings(findings, *arguments, Console(file=file, width=100))
    return file.getvalue()


def test_every_pair_is_counted_once():
    found = inspect_pairs(Given(), 100, words)
    assert (found.pairs, found.looked_at, found.left_out) == (7, 7, {"damaged shard": 2})
    assert found.bad == {"broken_image": 1, "no_caption": 2, "unreadable": 1}
    assert found.kinds == {"JPEG RGB": 1, "PNG RGB": 1, "pixels RGB": 1}
    assert (found.widths, found.heights) == ([30, 50, 9], [20, 40, 7])
    np.testing.assert_allclose(found.kilobytes, [len(PAIRS[i][0]) / 1000 for i in range(2)])
    assert found.captions == [1, 2, 1]
    assert found.lengths == [3, 1, 4, 1]


def test_some_pairs_stand_for_all():
    found = inspect_pairs(Given(), 2, words)
    assert (found.pairs, found.looked_at, found.widths) == (7, 2, [30])
    assert found.bad == {"broken_image": 1}  # numbers 0 and 3


def test_what_is_printed():
    text = printed(inspect_pairs(Given(), 100, words), "tokens", 2)
    assert "7 pairs, of which 7 were looked at" in text
    assert "left out before: 2 x damaged shard" in text
    assert "bad: 2 x no_caption (28.57%)" in text
    assert "captions over 2 tokens, which will be cut: 50.00%" in text
    rows = {line.split("  ")[0].strip(): line.split()[-5:] for line in text.splitlines()}
    assert rows["width"] == ["9", "11", "30", "48", "50"]
    assert rows["tokens a caption"] == ["1", "1", "2", "4", "4"]


def test_the_sheet_shows_pictures(tmp_path):
    found = inspect_pairs(Given(), 100, words)
    texts = [example.text for example in found.examples]
    assert texts[:4] == ["one two three", "one", "no_caption: 2", "broken_image: 3"]
    draw_sheet(found.examples, tmp_path / "sheet.png")
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    left, top = pixels.shape[1] // COLUMNS, pixels.shape[0] // 2
    second = pixels[:top, left : 2 * left]
    assert (np.abs(second - [1, 0, 77]).sum(-1) < 3).sum() > 500  # solid(1), of 50 x 40
    unreadable = pixels[:top, 3 * left : 4 * left]
    assert (unreadable[..., 0] - unreadable[..., 1] > 100).any()  # in red


def test_nothing_that_can_be_read():
    class Bad(Given):
        def __getitem__(self, index):
            raise ValueError

    text = printed(inspect_pairs(Bad(), 100, words), "words", None)
    assert "bad: 7 x unreadable (100.00%)" in text
    assert "none that can be read" in text


def test_on_the_command_line(tmp_path, capsys):
    captions = ["a cat", "a dog", "the quick brown fox"]
    write_pairs(tmp_path / "a.tar", captions)
    train_sentencepiece(captions * 5, 40, 77).save(tmp_path / "vocabulary")
    sheet = tmp_path / "sheet.png"
    arguments = ["inspect", f"wds:{tmp_path}/a.tar", "--sheet", str(sheet)]
    run(arguments)
    assert "words a caption" in capsys.readouterr().out
    assert sheet.is_file()
    vocabulary = ["--tokenizer", f"{tmp_path}/vocabulary", "--context-length", "3"]
    run([*arguments, *vocabulary])
    told = capsys.readouterr().out
    assert "tokens a caption" in told
    assert "captions over 3 tokens, which will be cut: 100.00%" in told
    with pytest.raises(InputError, match="samples must be at least 1"):
        run([*arguments, "--samples", "0"])
