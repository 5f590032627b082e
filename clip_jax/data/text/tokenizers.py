"""Text -> token ids: one interface, whatever the vocabulary.

Ids are laid out as OpenAI's: 0 pads, and the two highest ids start and end a text, so that the
end-of-text token is the maximum of a row.
"""

import html
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece

from clip_jax.errors import InputError

SENTENCEPIECE = "tokenizer.model"
"""What the file of a SentencePiece vocabulary is called in a directory."""


CHARACTERS = 64
"""For each token of the context, of a text that may be truncated; the rest is not looked at.

To clean a text may take time by the square of its length, and captions may be of any length.
"""


class Tokenizer(Protocol):
    """Turns texts into rows of ids: start, tokens, end, then zeros."""

    vocab_size: int
    context_length: int

    def __call__(self, texts: str | Sequence[str], truncate: bool = False) -> np.ndarray:
        """Texts -> int32 [n, context_length]; a longer text raises ValueError or is truncated."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of one row of ids, as far as ids keep it; see own_ids."""
        ...

    def save(self, directory: Path) -> None:
        """Write the vocabulary's files, from which vocabulary.open_tokenizer makes it again."""
        ...


def clean(text: str) -> str:
    """Undo HTML escapes (twice: captions are often escaped so) and collapse white space.

    Lone surrogates, which JSON can hold and UTF-8 cannot, become question marks.
    """
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return re.sub(r"\s+", " ", _unescape(_unescape(text))).strip()


def _unescape(text: str) -> str:
    """html.unescape, which cannot take numbers of thousands of digits: "&#00...065;"."""
    text = re.sub(r"&#0+(?=[0-9])", "&#", text)
    return html.unescape(re.sub(r"&#[0-9]{8,};?", "\ufffd", text))  # none is a character


def as_list(texts: str | Sequence[str], context_length: int, truncate: bool) -> list[str]:
    """One or more texts, as much of them as a tokenizer is to look at."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    return [text[: CHARACTERS * context_length] for text in texts] if truncate else texts


def pad_ids(
    texts: Sequence[str], ids: Sequence[Sequence[int]], vocab_size: int, length: int, truncate: bool
) -> np.ndarray:
    """Token ids of each text -> int32 [n, length] with start, end and padding."""
    start, end = vocab_size - 2, vocab_size - 1
    rows = np.zeros((len(ids), length), np.int32)
    for row, text, tokens in zip(rows, texts, ids, strict=True):
        if len(tokens) > length - 2 and not truncate:
            raise ValueError(
                f"text of {len(tokens) + 2} tokens is longer than the context of {length}: "
                f"{text[:80]!r}; shorten it or pass truncate=True"
            )
        tokens = tokens[: length - 2]
        row[: len(tokens) + 2] = [start, *tokens, end]
    return rows


def own_ids(ids: Sequence[int] | np.ndarray, vocab_size: int) -> list[int]:
    """The tokens of one row of ids: without start, end and what follows it, or padding."""
    start, end = vocab_size - 2, vocab_size - 1
    own = np.asarray(ids)
    ended = own == end
    own = own[: ended.argmax()] if ended.any() else np.trim_zeros(own, "b")
    return own[own != start].tolist()


class SentencePieceTokenizer:
    """A SentencePiece vocabulary, as trained by train_sentencepiece on one's own captions."""

    def __init__(self, model: bytes, context_length: int):
        self.model = model
        self.context_length = context_length
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = self._processor.get_piece_size() + 2

    def __call__(self, texts: str | Sequence[str], truncate: bool = False) -> np.ndarray:
        texts = as_list(texts, self.context_length, truncate)
        ids = self._processor.encode([clean(text) for text in texts])
        return pad_ids(texts, ids, self.vocab_size, self.context_length, truncate)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """A row's text, normalised and case-folded as it was encoded."""
        return self._processor.decode(own_ids(ids, self.vocab_size))

    def save(self, directory: Path) -> None:
        """Write the vocabulary as a SentencePiece model."""
        directory.mkdir(parents=True, exist_ok=True)
        part = directory / f"{SENTENCEPIECE}.part"
        part.write_bytes(self.model)
        part.replace(directory / SENTENCEPIECE)  # whole or not at all

    @classmethod
    def load(cls, path: Path, context_length: int) -> "SentencePieceTokenizer":
        """Read a SentencePiece .model file whose id 0 is padding."""
        try:
            model = path.read_bytes()
            # SentencePiece takes nothing at all for a model.
            tokenizer = cls(model or b"empty", context_length)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        except RuntimeError:
            raise InputError(f"{path}: not a SentencePiece model") from None
        if tokenizer._processor.pad_id() != 0:
            raise InputError(f"{path}: id 0 is not padding; train the vocabulary with pad_id=0")
        return tokenizer


def train_sentencepiece(
    captions: Iterable[str], vocab_size: int, context_length: int
) -> SentencePieceTokenizer:
    """A byte-pair vocabulary of at most vocab_size ids, fitted to captions and case-folded."""
    texts = [text for text in map(clean, captions) if text]
    if not texts:
        raise InputError("no caption to train a vocabulary on: every caption is empty")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size - 2,
            model_type="bpe",
            hard_vocab_limit=False,
            character_coverage=1.0,
            byte_fallback=False,
            normalization_rule_name="nmt_nfkc_cf",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError:
        characters = len(set("".join(texts)))
        raise InputError(
            f"these captions give no vocabulary of {vocab_size} ids: it takes visible text of at "
            f"most 4192 bytes a caption, and one id for each of their {characters} different "
            "characters; see --data.vocab-size"
        ) from None
    return SentencePieceTokenizer(model.getvalue(), context_length)
