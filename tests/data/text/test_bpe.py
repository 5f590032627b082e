"""Ids against open_clip's (golden) and a plain implementation of the algorithm, and the files."""

# ruff: noqa: RUF001 - the look-alikes below are meant

import gzip
import html
import itertools
import json
import pickle
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ftfy
import numpy as np
import pytest
import tokenizers
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from clip_jax.data.text.bpe import ALONE, ANYWHERE, PLAIN, WORDS, BPETokenizer, split_words
from clip_jax.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden/tokens.json").read_text())
MERGES = [tuple(merge) for merge in GOLDEN["merges"]]
OPENAI = Path("../shared/data/bpe/bpe_simple_vocab_16e6.txt.gz")
CAPTIONS = ["a photo of a cat", "Isn't it the red mat, dog? 3 + 4!", "une fillette près du café"]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer(MERGES, 512)


@pytest.fixture(scope="module")
def openai():
    if not OPENAI.exists():
        pytest.skip(f"needs {OPENAI}")
    return BPETokenizer.from_merges(OPENAI, 512)


def ids_of(tokenizer, text):
    """The ids of a text between start and end."""
    row = tokenizer([text])[0]
    length = int(np.flatnonzero(row)[-1])
    assert row[0] == tokenizer.vocab_size - 2
    assert row[length] == tokenizer.vocab_size - 1
    assert not row[length + 1 :].any()
    return row[1:length].tolist()


# A plain implementation: one character after the other, the best pair after the other.


def members(ranges):
    return {chr(code) for first, last in ranges for code in range(first, last + 1)}


LETTERS, NUMBERS, DROPPED = (members(GOLDEN[kind]) for kind in ("letters", "numbers", "dropped"))
FIXED = re.compile("<[sſ]tart_of_text>|<end_of_text>|'(?:[sſtmd]|re|ve|ll)")
VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES = [*VISIBLE, *(byte for byte in range(256) if byte not in VISIBLE)]
CHARACTERS = {
    byte: chr(byte if byte in VISIBLE else 256 + i - len(VISIBLE)) for i, byte in enumerate(BYTES)
}


def reference_words(text):
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = " ".join(text.split()).lower()
    kinds = ["L" if c in LETTERS else "N" if c in NUMBERS else c in DROPPED for c in text]
    i = 0
    while i < len(text):
        fixed = FIXED.match(text, i)
        end = i + 1
        if fixed:
            end = fixed.end()
        elif kinds[i] in ("L", False):  # a run of letters or of other characters
            while end < len(text) and kinds[end] == kinds[i]:
                end += 1
        if fixed or kinds[i] is not True:
            yield text[i:end]
        i = end


def reference_ids(merges, text):
    pieces = [*CHARACTERS.values(), *(f"{character}</w>" for character in CHARACTERS.values())]
    pieces += ["".join(merge) for merge in merges] + ["<start_of_text>", "<end_of_text>"]
    ids, ranks = ({item: i for i, item in enumerate(items)} for items in (pieces, merges))
    found = []
    for text_word in reference_words(text):
        word = [CHARACTERS[byte] for byte in text_word.encode("utf-8")]
        word[-1] += "</w>"
        if text_word in ("<start_of_text>", "<end_of_text>"):
            word = [text_word]
        while pairs := [pair for pair in itertools.pairwise(word) if pair in ranks]:
            best = min(pairs, key=ranks.__getitem__)
            i = list(itertools.pairwise(word)).index(best)
            word[i : i + 2] = ["".join(best)]
        found += [ids[piece] for piece in word]
    return found


PARTS = st.one_of(
    st.text(max_size=4),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "M", "S"]), max_size=4),
    st.text(st.sampled_from(sorted(LETTERS | NUMBERS | DROPPED)), max_size=4),
    st.text(st.sampled_from("abn'st<> \n&;#1_ſK\u0345"), max_size=8),
    st.sampled_from(["banana", "ananas", "aaaaa", "'s", "'ſ", "''ll", "don't", "12", "...", " "]),
    st.sampled_from(["<start_of_text>", "<END_OF_TEXT>", "<ſtart_of_text>", "<|endoftext|>"]),
    st.sampled_from(["&amp;lt;", "&AMP", "&#233;", "&#x0;", "& ", "&c", "Ã©", "â€œ", "ﬆ", "Ａ"]),
    st.sampled_from(
        ["👩‍👩‍👧", "👍🏽", "e\u0301", "한", "\u200d", "\x1c", "\x85", "\ufeff", "\x00", "İ"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=8).map("".join))
@example("<end_of_text><start_of_text>!<end_of_text>1<end_of_text>'s<end_of_text>")
def test_ids_are_those_of_the_plain_algorithm(tokenizer, text):
    assert ids_of(tokenizer, text) == reference_ids(MERGES, text)


def in_class(ranges):
    """The characters of a regular expression's class."""
    return re.findall(f"[{ranges}]", "".join(map(chr, range(0x110000))))


SINGLE, FREE = in_class(ALONE), in_class(ANYWHERE)
PLAIN_PARTS = st.one_of(
    st.text(st.sampled_from([*map(chr, range(0x20, 0x7F)), *"\n& '"]), min_size=1, max_size=6),
    st.text(st.sampled_from(FREE), max_size=2),
    st.sampled_from(SINGLE),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PLAIN_PARTS, max_size=12).map("".join))
@example("&amp & &lt; & amp; &")
@example("“It’s” – a café… in ’80s Malmö, 5 €")
def test_cleaning_left_out_is_cleaning_not_needed(text):
    """The reference always cleans by ftfy and html; ours leaves them out for plain text."""
    assert split_words(text) == list(reference_words(text))


def test_most_texts_are_plain():
    for text in ["a", "fish & chips", "two\nlines", "~!@#$%^*()'\"<b>", "", "“It’s” – a café."]:
        assert PLAIN.fullmatch(text)
    assert PLAIN.fullmatch("日本語の写真 👍🏽 한국어")


@pytest.mark.parametrize(
    "text",
    [
        *("&amp;", "a&b", "&", "&\n", "\t", "\r", "\x0b", "\x1c", "\x7f", "\x00", "\x80", "\ufeff"),
        *("e\u0301", "Ａ", "ﬁ", "ŉ", "Ã©", "Ã", "éé", "œ", "\u2028", "\u3000", "\ud800", "Привет"),
    ],
)
def test_what_cleaning_may_change_is_not_plain(text):
    assert not PLAIN.fullmatch(text)


def test_plain_characters_are_split_and_kept_as_in_the_reference():
    texts = [f"{c}a{c} {c}1{c}!{c}\n{c}'s A{c}.É" for c in SINGLE]
    texts += [f"é{c}{c}—{c}!{c} {c}a{c}" for c in FREE[::20]]
    texts += [
        "a".join(FREE[i : i + 50]) + "".join(FREE[i : i + 50]) for i in range(0, len(FREE), 50)
    ]
    for text in texts:
        assert PLAIN.fullmatch(text)
        assert split_words(text) == list(reference_words(text)), text


def test_only_neighbours_look_like_mojibake():
    """What plain text rests on: ftfy sees mojibake only in two such characters side by side."""
    ascii_characters = "aZ0 .,?!'\"_\n<-"
    for character in SINGLE:
        around = [f"{x}{character}{y}" for x in ascii_characters for y in ascii_characters]
        assert not is_bad("".join(around)), character
        pairs = "!".join(f"{character}{x}{other}" for other in SINGLE for x in "a 1'")
        assert not is_bad(pairs), character
    suspicious = re.compile("".join(["[", *MOJIBAKE_CATEGORIES.values(), "]"]))
    assert not suspicious.search("".join(FREE))


def test_plain_characters_compose_with_none():
    """So plain text is in the normal form that ftfy makes."""
    assert unicodedata.is_normalized("NFC", "".join([*SINGLE, *FREE]))
    assert not any(unicodedata.combining(character) for character in [*SINGLE, *FREE])


@pytest.mark.parametrize("number", range(len(GOLDEN["texts"])))
def test_hostile_texts_get_open_clips_ids(tokenizer, number):
    assert ids_of(tokenizer, GOLDEN["texts"][number]) == GOLDEN["ids"][number]


@pytest.mark.parametrize("number", range(len(GOLDEN["texts"])))
def test_hostile_texts_get_open_clips_ids_of_openais_vocabulary(openai, number):
    assert ids_of(openai, GOLDEN["texts"][number]) == GOLDEN["openai_ids"][number]


def test_every_character_is_the_letter_or_number_it_is_to_open_clip():
    """Two of it between letters make 1 word if letters, 4 if numbers, 2 if dropped, else 3."""
    counts = dict.fromkeys(LETTERS, 1) | dict.fromkeys(NUMBERS, 4) | dict.fromkeys(DROPPED, 2)
    empty_planes = range(0x40000, 0xE0000)
    codes = [*range(0xD800), *range(0xE000, 0x40000), *empty_planes[::97], *range(0xE0000, 0xE1000)]
    characters = [chr(code) for code in codes]
    for first in range(0, len(characters), 64):
        chosen = characters[first : first + 64]
        expected = sum(counts.get(character, 3) for character in chosen)
        text = " ".join(f"a{character * 2}b" for character in chosen)
        if len(WORDS.pre_tokenize_str(text)) != expected:
            for character in chosen:
                found = len(WORDS.pre_tokenize_str(f"a{character * 2}b"))
                assert found == counts.get(character, 3), hex(ord(character))


def test_openais_vocabulary_is_complete(openai):
    assert openai.vocab_size == 49408
    assert ids_of(openai, "a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert openai("")[0, :3].tolist() == [49406, 49407, 0]


def test_rows_are_start_ids_end_and_zeros(tokenizer):
    short = BPETokenizer(MERGES, 9)
    rows = short(["aa", "the dog"])
    aa, the, dog = (tokenizer.ids()[piece] for piece in ("aa</w>", "the</w>", "dog</w>"))
    start, end = len(MERGES) + 512, len(MERGES) + 513
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [start, aa, end, 0, 0, 0, 0, 0, 0],
        [start, the, dog, end, 0, 0, 0, 0, 0],
    ]
    assert short.vocab_size == end + 1
    np.testing.assert_array_equal(short("aa"), rows[:1])
    np.testing.assert_array_equal(short(("aa", "the dog")), rows)
    assert short([]).shape == (0, 9)


def test_too_long_a_text_is_named_or_cut():
    tokenizer = BPETokenizer(MERGES, 5)
    with pytest.raises(ValueError, match=r"6 tokens .* context of 5: '1 2 3 4'"):
        tokenizer(["1 2 3", "1 2 3 4"])
    rows = tokenizer(["1 2 3", "1 2 3 4"], truncate=True)
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[1, -1] == tokenizer.vocab_size - 1


def test_copies_and_threads_give_the_same_ids(tokenizer):
    texts = [f"{text} {i}" for i in range(50) for text in CAPTIONS]
    expected = tokenizer(texts)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tokenizer))(texts), expected)
    fresh = BPETokenizer(MERGES, 512)
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(fresh, [texts] * 16):
            np.testing.assert_array_equal(rows, expected)


def test_words_once_kept_do_not_fill_memory(tokenizer):
    fresh = BPETokenizer(MERGES, 512)
    fresh(["x" * 1000, "!" * 1000, "word"], truncate=True)
    assert fresh._frequent.cache_info().currsize == 1
    assert fresh._frequent.cache_info().maxsize < 100_000


# Files.


def assert_same(tokenizer, expected):
    assert tokenizer.merges == expected.merges
    np.testing.assert_array_equal(tokenizer(CAPTIONS), expected(CAPTIONS))


def lines(merges=MERGES):
    return "".join(f"{left} {right}\n" for left, right in merges)


@pytest.fixture
def saved(tokenizer, tmp_path):
    """A directory with the five files of a saved tokenizer."""
    tokenizer.save(tmp_path / "new" / "saved")
    return tmp_path / "new" / "saved"


def test_what_is_saved_loads_from_each_of_its_files(saved, tokenizer):
    names = ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in saved.iterdir()) == [*names, "vocab.json"]
    for path in (saved, saved / "tokenizer.json", saved / "vocab.json", saved / "merges.txt"):
        assert_same(BPETokenizer.load(path, 512), tokenizer)
    (saved / "tokenizer.json").unlink()
    assert_same(BPETokenizer.load(saved, 512), tokenizer)
    assert BPETokenizer.load(saved).context_length == 77


def test_a_saved_tokenizer_works_without_this_project(saved, tokenizer):
    loaded = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
    for caption, row in zip(CAPTIONS, tokenizer(CAPTIONS), strict=True):
        ids = loaded.encode(caption).ids
        assert ids == row[: len(ids)].tolist()
        assert not row[len(ids) :].any()
    text = loaded.decode(loaded.encode(CAPTIONS[0]).ids)
    assert text.replace("</w>", " ").strip() == CAPTIONS[0]


def test_a_saved_tokenizer_works_in_transformers(saved, tokenizer):
    transformers = pytest.importorskip("transformers")
    for kind in (transformers.AutoTokenizer, transformers.CLIPTokenizer):
        loaded = kind.from_pretrained(saved)
        for caption, row in zip(CAPTIONS, tokenizer(CAPTIONS), strict=True):
            assert loaded(caption).input_ids == row[row != 0].tolist()
        assert loaded.model_max_length == 512


@pytest.mark.parametrize("name", ["bpe_simple_vocab_16e6.txt", "my_bpe_simple_vocab_2.txt.gz"])
def test_files_of_merges_are_found_by_name(tmp_path, tokenizer, name):
    content = f'"bpe_simple_vocab_16e6.txt#version: 0.2\n{lines()}'.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (tmp_path / "notes.txt.gz").write_bytes(b"no vocabulary")
    for path in (tmp_path, tmp_path / name):
        assert_same(BPETokenizer.load(path, 512), tokenizer)
    assert_same(BPETokenizer.from_merges(tmp_path / name, 512), tokenizer)


@pytest.mark.parametrize(
    "content", [lines(), f"#version: 0.2\n{lines()}\n\n", lines().replace("\n", "\r\n").rstrip()]
)
def test_merges_with_or_without_header_and_last_line(tmp_path, tokenizer, content):
    (tmp_path / "merges.txt").write_bytes(content.encode())
    assert_same(BPETokenizer.from_merges(tmp_path / "merges.txt", 512), tokenizer)


def test_openais_file_is_cut_where_its_models_cut_it(tmp_path):
    merges = list(itertools.product(CHARACTERS.values(), repeat=2))
    file = tmp_path / "merges.txt"
    file.write_text(f'"bpe_simple_vocab_16e6.txt#version: 0.2\n{lines(merges)}', "utf-8")
    assert BPETokenizer.load(file).vocab_size == 49408
    assert BPETokenizer.load(file).merges == merges[:48894]
    file.write_text(f"#version: 0.2\n{lines(merges)}", "utf-8")
    assert BPETokenizer.load(file).vocab_size == 256 * 256 + 514


def test_older_tokenizer_json_has_merges_as_strings(saved, tokenizer):
    content = json.loads((saved / "tokenizer.json").read_text())
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    (saved / "tokenizer.json").write_text(json.dumps(content))
    assert_same(BPETokenizer.load(saved, 512), tokenizer)


def edited(name, change):
    """Writes a saved file anew, its JSON changed."""

    def write(saved):
        content = json.loads((saved / name).read_text())
        change(content)
        (saved / name).write_text(json.dumps(content))
        return saved / name

    return write


def replaced(name, content):
    def write(saved):
        (saved / name).write_bytes(content)
        return saved / name

    return write


def add_token(content):
    content["added_tokens"].append({"content": "<cat-toy>", "id": len(MERGES) + 514})


def swap_ids(content):
    content["a"], content["b"] = content["b"], content["a"]


def swap_special(content):
    start, end = content["<|startoftext|>"], content["<|endoftext|>"]
    content["<|startoftext|>"], content["<|endoftext|>"] = end, start


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (edited("vocab.json", swap_ids), "'a' has the id 65, in OpenAI's order .* 64"),
        (edited("vocab.json", swap_special), "'<|startoftext|>' has the id"),
        (edited("vocab.json", lambda content: content.pop("dog</w>")), "'dog</w>' has the id None"),
        (edited("tokenizer.json", add_token), "'<cat-toy>' has the id .* tokens added"),
        (edited("tokenizer.json", lambda c: c["model"].pop("merges")), "no byte-pair model"),
        (edited("tokenizer.json", lambda c: c["model"].update(merges=[5])), "no byte-pair model"),
        (edited("tokenizer.json", lambda c: c["model"].update(vocab=[])), "no byte-pair model"),
        (edited("tokenizer.json", lambda c: c["model"]["merges"].pop()), "has the id"),
        (edited("tokenizer.json", lambda c: c.update(added_tokens=5)), "no byte-pair model"),
        (replaced("tokenizer.json", b"{"), "not a JSON object"),
        (replaced("tokenizer.json", b"[" * 100_000), "not a JSON object"),
        (replaced("vocab.json", b"[1]"), "not a JSON object"),
        (replaced("vocab.json", b"{}"), "'!' has the id None"),
        (
            edited("tokenizer.json", lambda c: c["model"].update(merges=[[["t"], "h"]])),
            "merge 1 is",
        ),
        (replaced("merges.txt", b"\n"), "no merges in it"),
        (replaced("merges.txt", b"#version: 0.2\n"), "no merges in it"),
        (replaced("merges.txt", b"#version: 0.2\nt h\nth x y\n"), "merge 2 is not two pieces"),
        (replaced("merges.txt", b"t h\nthe re\n"), "merge 2 joins 'the', which no merge before"),
        (replaced("merges.txt", b"t h\nt h\n"), "merge 2 makes 'th', which is there already"),
        (replaced("merges.txt", b"t \xff\n"), "not text in UTF-8"),
        (replaced("merges.txt.gz", b"t h\n"), "not compressed by gzip"),
        (replaced("merges.txt.gz", gzip.compress(lines().encode())[:-20]), "damaged"),
    ],
)
def test_files_that_hold_no_clip_vocabulary_are_refused(saved, write, message):
    path = write(saved)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        BPETokenizer.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_missing_vocabularies_are_refused(tmp_path, saved):
    with pytest.raises(
        InputError, match=f"{tmp_path}: no vocabulary here; it takes tokenizer.json"
    ):
        BPETokenizer.load(tmp_path)
    with pytest.raises(InputError, match=r"none\.txt: No such file"):
        BPETokenizer.load(tmp_path / "none.txt")
    (saved / "tokenizer.json").unlink()
    (saved / "merges.txt").unlink()
    with pytest.raises(InputError, match="no vocabulary here"):
        BPETokenizer.load(saved)
    with pytest.raises(InputError, match=r"merges\.txt: No such file"):
        BPETokenizer.load(saved / "vocab.json")


def test_files_that_unpack_to_too_much_are_refused(tmp_path):
    path = tmp_path / "bpe_simple_vocab.txt.gz"
    path.write_bytes(gzip.compress(bytes(65 << 20)))
    with pytest.raises(InputError, match="too large for a vocabulary"):
        BPETokenizer.load(path)


def test_numbers_that_are_too_long_are_no_json(tmp_path, saved):
    path = tmp_path / "vocab.json"
    path.write_text(f'{{"a": {"9" * 5000}}}')
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(InputError, match="not a JSON object"):
        BPETokenizer.load(path)


def test_messages_are_short_whatever_the_pieces(tmp_path):
    path = tmp_path / "merges.txt"
    for content in (f"{'a' * 9000} b\n", f"a b\na b\n{'ab' * 5000} c"):
        path.write_text(content)
        with pytest.raises(InputError) as caught:
            BPETokenizer.load(path)
        assert len(str(caught.value)) < 300


def test_long_captions_are_cut_before_they_are_cleaned(tokenizer, monkeypatch):
    cleaned = []
    monkeypatch.setattr(ftfy, "fix_text", lambda text: cleaned.append(len(text)) or text)
    short = BPETokenizer(MERGES, 16)
    text = "&amp;amp; " + "a cat " * 100_000  # with nested escapes, ftfy would take hours
    ids = short(text, truncate=True)
    assert cleaned == [1024]
    np.testing.assert_array_equal(ids, short(text[:1024], truncate=True))
    with pytest.raises(ValueError, match="longer than the context"):
        short("a cat " * 1000)


@settings(deadline=None)
@given(st.text(max_size=60))
@example("a photo, of a café! 日本 🙂")
@example("</w> <w/>")
def test_words_come_back(tokenizer, text):
    words = split_words(text)
    assume(not {"<start_of_text>", "<end_of_text>"} & {*words})
    assert tokenizer.decode(tokenizer(text)[0]) == " ".join(words)


def test_half_a_character_is_replaced(tokenizer):
    row = tokenizer("é")[0]
    assert tokenizer.decode(row) == "é"
    assert tokenizer.decode([row[0], *tokenizer("日")[0][1:2]]) == "\ufffd"
