"""Which tokenizer a vocabulary's files call for."""

from pathlib import Path

from clip_jax.data.bpe import BPETokenizer
from clip_jax.data.tokenizers import SENTENCEPIECE, SentencePieceTokenizer, Tokenizer
from clip_jax.errors import InputError

BPE_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
"""What a BPETokenizer writes; the first, or the next two, hold the vocabulary."""

OPENAI_FILES = ("*bpe_simple_vocab*.txt", "*bpe_simple_vocab*.txt.gz")
"""Patterns for the name of OpenAI's file of merges."""

VOCABULARY_FILES = (SENTENCEPIECE, *BPE_FILES)


def files_of(tokenizer: Tokenizer | None) -> tuple[str, ...]:
    """Names of the files that its save writes."""
    if tokenizer is None:
        return ()
    return (SENTENCEPIECE,) if isinstance(tokenizer, SentencePieceTokenizer) else BPE_FILES


def has_vocabulary(folder: Path) -> bool:
    """Whether a directory holds a vocabulary."""
    names = (SENTENCEPIECE, "tokenizer.json", "vocab.json")
    return any((folder / name).is_file() for name in names) or any(
        path.is_file() for pattern in OPENAI_FILES for path in folder.glob(pattern)
    )


def open_tokenizer(path: Path, context_length: int) -> Tokenizer:
    """A SentencePiece .model, a file of a byte-pair vocabulary, or a directory with one of these.

    Raises InputError if there is none, or a damaged one.
    """
    model = path / SENTENCEPIECE if path.is_dir() else path
    if model.suffix == ".model" and (model.is_file() or not path.is_dir()):
        return SentencePieceTokenizer.load(model, context_length)
    if path.is_dir() and not has_vocabulary(path):
        raise InputError(
            f"{path}: no vocabulary here; it takes {SENTENCEPIECE}, tokenizer.json, vocab.json "
            "with merges.txt, or bpe_simple_vocab_16e6.txt.gz"
        )
    return BPETokenizer.load(path, context_length)
