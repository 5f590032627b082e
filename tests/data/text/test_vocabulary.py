"""Vocabularies in files: what is found, and that transformers' `tokenizers` reads the same ids."""

import gzip
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax import InputError
from clip_jax.data.text.bpe import BPETokenizer
from clip_jax.data.text.tokenizers import SentencePieceTokenizer, train_sentencepiece
from clip_jax.data.text.vocabulary import files_of, has_vocabulary, open_tokenizer, save_vocabulary

MERGES = json.loads((Path(__file__).parents[2] / "golden/tokens.json").read_text())["merges"]
OPENAI = Path("../shared/data/bpe/bpe_simple_vocab_16e6.txt.gz")
CAPTIONS = [
    "a red circle above a blue square",
    "fish & chips on a plate, 12 for $3.50!",
    "Größe und Maß einer Flöte",
    "una niña con una flor",
    "日本語の 写真",
    "the quick brown fox jumps over the lazy dog",
] * 3
LENGTH = 64


@pytest.fixture(scope="module")
def pieces():
    return train_sentencepiece(CAPTIONS, 180, LENGTH)


@pytest.fixture(scope="module")
def pairs():
    return BPETokenizer([tuple(merge) for merge in MERGES], LENGTH)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, pieces, pairs):
    """Where each kind was saved."""
    base = tmp_path_factory.mktemp("vocabularies")
    for name, tokenizer in {"pieces": pieces, "pairs": pairs}.items():
        save_vocabulary(tokenizer, base / name)
    return base


@pytest.mark.parametrize("kind", ["pieces", "pairs"])
def test_what_was_saved_is_found_and_gives_the_same_ids(request, folders, kind):
    tokenizer, folder = request.getfixturevalue(kind), folders / kind
    assert {path.name for path in folder.iterdir()} == set(files_of(tokenizer))
    assert has_vocabulary(folder)
    opened = open_tokenizer(folder, LENGTH)
    assert type(opened) is type(tokenizer)
    assert (opened.vocab_size, opened.context_length) == (tokenizer.vocab_size, LENGTH)
    np.testing.assert_array_equal(opened(CAPTIONS), tokenizer(CAPTIONS))


def test_no_vocabulary_has_no_files(tmp_path):
    assert files_of(None) == ()
    assert not has_vocabulary(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text("{}")
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz.part").write_bytes(b"")
    (tmp_path / "tokenizer.json").mkdir()
    assert not has_vocabulary(tmp_path)
    with pytest.raises(InputError, match=r"no vocabulary here; it takes tokenizer\.model, tokeniz"):
        open_tokenizer(tmp_path, LENGTH)


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_part_of_the_files_is_enough(tmp_path, folders, pairs, names):
    for name in names:
        shutil.copy(folders / "pairs" / name, tmp_path)
    assert has_vocabulary(tmp_path)
    for path in (tmp_path, tmp_path / names[0]):
        np.testing.assert_array_equal(open_tokenizer(path, LENGTH)(CAPTIONS), pairs(CAPTIONS))


def test_the_sentencepiece_model_alone_is_enough(tmp_path, folders, pieces):
    other = tmp_path / "other name.model"
    shutil.copy(folders / "pieces" / "tokenizer.model", other)
    np.testing.assert_array_equal(open_tokenizer(other, LENGTH)(CAPTIONS), pieces(CAPTIONS))


def test_openai_s_file_of_merges_is_found_by_its_name(tmp_path, pairs):
    lines = ['"a header', *(" ".join(merge) for merge in MERGES)]
    path = tmp_path / "bpe_simple_vocab_small.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *lines[1:]]).encode()))
    assert has_vocabulary(tmp_path)
    for source in (tmp_path, path):
        np.testing.assert_array_equal(open_tokenizer(source, LENGTH)(CAPTIONS), pairs(CAPTIONS))


def test_openai_s_own_vocabulary():
    if not OPENAI.exists():
        pytest.skip(f"needs {OPENAI}")
    assert has_vocabulary(OPENAI.parent)
    tokenizer = open_tokenizer(OPENAI.parent, 77)
    assert tokenizer.vocab_size == 49408
    assert tokenizer("hello world!")[0, :5].tolist() == [49406, 3306, 1002, 256, 49407]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.model", b"", "tokenizer.model: not a SentencePiece model"),
        ("tokenizer.model", b"{}", "tokenizer.model: not a SentencePiece model"),
        ("tokenizer.json", b"{", "tokenizer.json: not a JSON object"),
        ("bpe_simple_vocab_16e6.txt.gz", b"\x1f\x8b", "damaged, or not compressed"),
    ],
)
def test_a_damaged_vocabulary_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert has_vocabulary(tmp_path)
    with pytest.raises(InputError, match=message):
        open_tokenizer(tmp_path, LENGTH)


@pytest.mark.parametrize("name", ["none", "none.model", "none.json", "none.txt.gz"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: No such file or directory"):
        open_tokenizer(tmp_path / name, LENGTH)


def transformers_ids(folder, text):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


def our_ids(tokenizer, text):
    row = tokenizer(text)[0].tolist()
    return row[: row.index(tokenizer.vocab_size - 1) + 1]


@pytest.mark.parametrize("kind", ["pieces", "pairs"])
@pytest.mark.parametrize(
    "text",
    [
        *CAPTIONS[:6],
        *("", " ", "  two   spaces ", "new\nline\tand tab", "UPPER lower", "naïve café"),
        *("e\u0301", "unknown: ☃☃ \u0436", "aaaa aaaaa", "▁a▁b", "日本 写真", "한국어"),
    ],
)
def test_tokenizers_gives_the_same_ids(request, folders, kind, text):
    """`tokenizers` alone, which is what transformers and open_clip's HFTokenizer use."""
    tokenizer = request.getfixturevalue(kind)
    assert transformers_ids(folders / kind, text) == our_ids(tokenizer, text)


@settings(deadline=None, max_examples=200)
@given(
    words=st.lists(
        st.sampled_from("".join(CAPTIONS).split())
        | st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=6)
        | st.text(st.sampled_from("abcdeÉß日\ufb01\uff21² \n"), max_size=10),
        max_size=5,
    )
)
def test_sentencepiece_in_tokenizers_is_sentencepiece(folders, pieces, words):
    text = " ".join(words).replace("&", "+").replace("<", "(")  # neither HTML nor special tokens
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces.model)
    start = pieces.vocab_size - 2
    theirs = transformers_ids(folders / "pieces", text)
    assert theirs == [start, *processor.encode(text), start + 1]


def test_the_special_tokens_are_declared(folders, pieces, pairs):
    for kind, tokenizer in {"pieces": pieces, "pairs": pairs}.items():
        config = json.loads((folders / kind / "tokenizer_config.json").read_text())
        read = tokenizers.Tokenizer.from_file(str(folders / kind / "tokenizer.json"))
        ids = [read.token_to_id(config[name]) for name in ("bos_token", "eos_token", "pad_token")]
        end = tokenizer.vocab_size - 1
        assert ids == [end - 1, end, end]
        assert config["model_max_length"] == LENGTH


def other_sentencepiece(**options):
    """A vocabulary that train_sentencepiece would not make."""
    model = io.BytesIO()
    base = {"vocab_size": 60, "model_type": "bpe", "hard_vocab_limit": False, "pad_id": 0}
    ids = {"unk_id": 1, "bos_id": -1, "eos_id": -1, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_writer=model, **(base | ids | options)
    )
    return SentencePieceTokenizer(model.getvalue(), LENGTH)


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"byte_fallback": True, "vocab_size": 330},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"treat_whitespace_as_suffix": True},
        {"user_defined_symbols": ["quick"]},
        {"unk_piece": "[unk]"},
    ],
)
def test_sentencepiece_models_of_other_kinds_are_kept_to_ourselves(tmp_path, options):
    """Their ids would be others in `tokenizers`: better no file than a wrong one."""
    save_vocabulary(other_sentencepiece(**options), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.model"]


def test_a_sentencepiece_model_of_our_kind_but_another_normalisation(tmp_path):
    tokenizer = other_sentencepiece(normalization_rule_name="nmt_nfkc", split_by_whitespace=False)
    save_vocabulary(tokenizer, tmp_path)
    for text in (*CAPTIONS[:4], "UPPER lower"):
        text = text.replace("&", "+")
        assert transformers_ids(tmp_path, text) == our_ids(tokenizer, text)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_half_of_a_pair_of_files_is_no_vocabulary(tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert not has_vocabulary(tmp_path)
