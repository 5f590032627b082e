"""The layout of token rows, against SentencePiece's own decoding, and vocabularies in files."""

import html
import io

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.data.text.tokenizers import (
    SENTENCEPIECE,
    SentencePieceTokenizer,
    clean,
    own_ids,
    pad_ids,
    train_sentencepiece,
)
from clip_jax.errors import InputError

CAPTIONS = [
    "a red circle above a blue square",
    "fish & chips <b>on</b> a plate",
    "Größe und Maß",
    "una niña con una flor",
    "the quick brown fox jumps over the lazy dog",
] * 3
LENGTH = 16


@pytest.fixture(scope="module")
def tokenizer():
    return train_sentencepiece(CAPTIONS, 120, LENGTH)


@pytest.fixture(scope="module")
def long_tokenizer(tokenizer):
    return SentencePieceTokenizer(tokenizer.model, 200)


def decode(tokenizer, row):
    """The text of a row, by SentencePiece itself."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    end = list(row).index(tokenizer.vocab_size - 1)
    return processor.decode([int(token) for token in row[1:end]])


def assert_valid(tokenizer, row):
    """Start, tokens, end, padding; nothing but the end reaches its id."""
    count = int((row != 0).sum())
    assert row.shape == (tokenizer.context_length,)
    assert row[0] == tokenizer.vocab_size - 2
    assert row.argmax() == count - 1
    assert (row == tokenizer.vocab_size - 1).sum() == 1
    assert not row[count:].any()
    assert ((row[1 : count - 1] > 0) & (row[1 : count - 1] < tokenizer.vocab_size - 2)).all()


def test_pad_ids_lays_out_rows():
    rows = pad_ids(
        ["a", "b", "c"], [[5, 6], [], [7, 8, 9]], vocab_size=100, length=6, truncate=False
    )
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [98, 5, 6, 99, 0, 0],
        [98, 99, 0, 0, 0, 0],
        [98, 7, 8, 9, 99, 0],
    ]


def test_too_long_a_text_is_named_or_cut():
    ids = [[1], list(range(1, 6))]
    exact = pad_ids(["", ""], [[1], [1, 2, 3, 4]], 100, 6, truncate=False)
    assert exact[1].tolist() == [98, 1, 2, 3, 4, 99]
    with pytest.raises(ValueError, match=r"7 tokens .* context of 6: 'a long one'; .*truncate"):
        pad_ids(["short", "a long one"], ids, 100, 6, truncate=False)
    cut = pad_ids(["short", "a long one"], ids, 100, 6, truncate=True)
    assert cut[1].tolist() == [98, 1, 2, 3, 4, 99]


def test_rows_decode_to_the_text(tokenizer):
    texts = ["a red square above a circle", "Größe"]
    rows = tokenizer(texts)
    assert rows.shape == (2, LENGTH)
    assert rows.dtype == np.int32
    for text, row in zip(texts, rows, strict=True):
        assert_valid(tokenizer, row)
        assert decode(tokenizer, row) == text.lower()


def test_one_text_is_a_batch_of_one(tokenizer):
    np.testing.assert_array_equal(tokenizer("a red fox"), tokenizer(["a red fox"]))
    assert tokenizer([]).shape == (0, LENGTH)
    assert tokenizer("").tolist() == [
        [tokenizer.vocab_size - 2, tokenizer.vocab_size - 1] + [0] * (LENGTH - 2)
    ]


def test_over_long_texts(tokenizer):
    text = "the quick brown fox " * 20
    with pytest.raises(ValueError, match="'the quick brown fox"):
        tokenizer(["a dog", text])
    row = tokenizer(["a dog", text], truncate=True)[1]
    assert_valid(tokenizer, row)
    assert row[-1] == tokenizer.vocab_size - 1
    assert text.startswith(decode(tokenizer, row))


def test_case_and_compatible_forms_are_folded(tokenizer):
    rows = tokenizer(["A RED Fox", "a red fox", "\uff41 \uff52\uff45\uff44 fox"])
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[2], rows[1])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("fish &amp;amp; chips", "fish & chips"),
        ("fish &amp; chips", "fish & chips"),
        ("&amp;amp;amp;", "&amp;"),
        ("&amp;lt;b&amp;gt; &#233;", "<b> é"),
        (" a\t b\n\u3000c\u00a0", "a b c"),
        ("half \ud800 a pair", "half ? a pair"),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned


def test_texts_are_cleaned_before_encoding(tokenizer):
    rows = tokenizer(["fish &amp;amp;  chips", "fish & chips"])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert decode(tokenizer, rows[0]) == "fish & chips"


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(st.text(st.characters(exclude_categories=())), max_size=4))
def test_any_text_gives_a_valid_row(tokenizer, texts):
    for row in tokenizer(texts, truncate=True):
        assert_valid(tokenizer, row)


@settings(deadline=None)
@given(text=st.text(sorted(set("".join(CAPTIONS[:1]))), max_size=60))
def test_any_text_of_known_letters_comes_back(long_tokenizer, text):
    row = long_tokenizer(text)[0]
    assert decode(long_tokenizer, row) == " ".join(text.split())


def test_the_vocabulary_keeps_its_size_and_layout(tokenizer):
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    assert tokenizer.vocab_size == processor.get_piece_size() + 2 <= 120
    assert (processor.pad_id(), processor.unk_id()) == (0, 1)
    assert (processor.bos_id(), processor.eos_id()) == (-1, -1)


def test_training_is_deterministic(tokenizer):
    assert train_sentencepiece(CAPTIONS, 120, LENGTH).model == tokenizer.model


@pytest.mark.parametrize("captions", [[], [""], ["", " \n", "&nbsp;"]])
def test_captions_without_text_are_refused(captions):
    with pytest.raises(InputError, match="every caption is empty"):
        train_sentencepiece(captions, 100, LENGTH)


@pytest.mark.parametrize(
    ("captions", "vocab_size"),
    [(CAPTIONS, 20), (CAPTIONS, 2), (["\u200b", "\x01"], 100), (["word " * 2000], 100)],
)
def test_captions_that_give_no_vocabulary_are_refused(captions, vocab_size):
    with pytest.raises(InputError, match=f"no vocabulary of {vocab_size} ids.*--data.vocab-size"):
        train_sentencepiece(captions, vocab_size, LENGTH)


def test_half_a_surrogate_pair_does_not_stop_training():
    tokenizer = train_sentencepiece([*CAPTIONS, "half \ud800 a pair"], 120, LENGTH)
    assert_valid(tokenizer, tokenizer("\udfff", truncate=True)[0])


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "vocabulary")
    again = SentencePieceTokenizer.load(tmp_path / "vocabulary" / SENTENCEPIECE, LENGTH)
    assert again.vocab_size == tokenizer.vocab_size
    np.testing.assert_array_equal(again(CAPTIONS), tokenizer(CAPTIONS))


def foreign_model():
    """A vocabulary with SentencePiece's default ids, where 0 is the unknown token."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS),
        model_writer=model,
        vocab_size=60,
        model_type="bpe",
        minloglevel=2,
    )
    return model.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "not a SentencePiece model"),
        (lambda: b"garbage " * 20, "not a SentencePiece model"),
        (foreign_model, "id 0 is not padding"),
    ],
)
def test_files_that_hold_no_vocabulary_are_refused(tmp_path, content, message, capfd):
    path = tmp_path / "a.model"
    path.write_bytes(content())
    capfd.readouterr()
    with pytest.raises(InputError, match=f"{path}: {message}") as caught:
        SentencePieceTokenizer.load(path, LENGTH)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_vocabularies_are_refused(tmp_path):
    for path in (tmp_path / "none.model", tmp_path):
        with pytest.raises(InputError, match=f"{path}: "):
            SentencePieceTokenizer.load(path, LENGTH)


@given(st.text("&#x;amp0123456789a", max_size=60))
def test_escapes_are_undone_as_html_does(text):
    assert clean(text) == " ".join(html.unescape(html.unescape(text)).split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a &#{'9' * 5000}; b", "a \ufffd b"),
        (f"&amp;#{'9' * 5000}b", "\ufffdb"),
        (f"&#{'0' * 5000}65;", "A"),
        (f"&#x{'f' * 5000};", "\ufffd"),
    ],
)
def test_escapes_of_thousands_of_digits_are_undone_too(text, expected):
    assert clean(text) == expected


def test_rows_are_decoded(tokenizer):
    for text in ["a red square above a circle", "Größe", "", "fish & chips"]:
        assert tokenizer.decode(tokenizer(text)[0]) == text.lower()


@given(st.lists(st.integers(1, 97), max_size=8), st.integers(0, 3))
def test_a_row_s_own_tokens(tokens, fill):
    assert own_ids([98, *tokens, 99, 0, 5], 100) == tokens
    assert own_ids(np.array([98, *tokens, *[0] * fill]), 100) == tokens  # ended by padding
    assert own_ids([98, 0, *tokens, 99], 100) == [0, *tokens]  # OpenAI's 0 is a token too
