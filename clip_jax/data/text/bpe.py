"""OpenAI's byte-pair tokenizer: open_clip's ids, from vocabulary files in any of their layouts.

It reads vocabularies and trains none: for one's own captions there is train_sentencepiece.
"""

import functools
import gzip
import hashlib
import json
import re
import reprlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
from ftfy.fixes import uncurl_quotes
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from clip_jax.data.text.tokenizers import as_list, clean, own_ids, pad_ids
from clip_jax.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
"""The special tokens' names in vocabulary files; in texts they are ordinary characters."""

OPENAI_MERGES = 48_894
"""Merges of OpenAI's file that its models use, the first ones; it holds 262,144."""

OPENAI_DIGEST = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""SHA-256 of these merges, one a line."""

VOCABULARY_FORMS = "tokenizer.json, vocab.json with merges.txt, or bpe_simple_vocab_16e6.txt.gz"
"""What a directory may hold, in the words of an error."""

MAX_BYTES = 64 << 20
"""Of a file of a vocabulary, unpacked: 20 times as many as OpenAI's has."""

CACHED_WORDS, CACHED_LENGTH = 2**16, 32
"""How many words' ids are kept, and the characters of the longest."""

# Letters and numbers of Unicode 17 and 18, which `tokenizers` (Unicode 16) does not know as such.
NEWER_LETTERS = """
    558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF
    10940-10959 10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DF1 16EA0-16EB8 16EBB-16ED3 16FF2-16FF3
    187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 1D6A6
    1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED
    1E6F0-1E6F4 1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-33479 3D000-3FC3F
"""
NEWER_NUMBERS = "11DE0-11DE9 1246F 12475-1247F 12550-12686 16FF4-16FF6"


def _characters(ranges: str) -> str:
    """ "41-5A 61" -> "A-Za", for a character class."""
    return "".join(re.sub("[0-9A-F]+", lambda code: chr(int(code[0], 16)), ranges).split())


def _word_pattern(letters: str, numbers: str) -> str:
    """open_clip's split pattern for lower-cased text, given its classes of characters.

    The original ignores case. To it the long s (U+017F) is an s, and the iota below (U+0345), a
    mark whose other case is a letter, is of no class: it is dropped and divides words.
    """
    return (
        "<[s\u017f]tart_of_text>|<end_of_text>|'[s\u017f]|'t|'re|'ve|'m|'ll|'d|"
        rf"[{letters}]+|[{numbers}]|[^\s{letters}{numbers}" + "\u0345]+"
    )


WORDS = pre_tokenizers.Split(
    Regex(
        _word_pattern(r"\p{L}" + _characters(NEWER_LETTERS), r"\p{N}" + _characters(NEWER_NUMBERS))
    ),
    behavior="removed",
    invert=True,
)

# Most texts are such that ftfy and html.unescape straighten quotes at most. That is certain if they
# have no "&" but before spaces, no character that ftfy always replaces, and nothing like mojibake:
# of European letters and signs beyond ASCII no two in a row, and none of Â, Ã, Œ and œ.
ALONE = "\xa0-\xc1\xc4-\u0131\u0134-\u0148\u014a-\u0151\u0154-\u017f\u2010-\u2027\u2030-\u203a€™"
ANYWHERE = (  # CJK and emoji
    "\u3001\u3002\u3008-\u3011\u3041-\u3096\u30a1-\u30fe\u4e00-\u9fef\uac00-\ud7a3"
    "\u200d\ufe0f\u2600-\u2775\u2794-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"
)
_RUN = rf"[\n -%'-~{ANYWHERE}]*"
PLAIN = re.compile(rf"{_RUN}(?:(?:&(?= )|[{ALONE}](?![{ALONE}])){_RUN})*")
PLAIN_WORDS = re.compile(
    _word_pattern(
        "a-zªµºß-öø-\u017f\u3041-\u3096\u30a1-\u30fa\u30fc-\u30fe\u4e00-\u9fef\uac00-\ud7a3",
        "0-9¹²³¼½¾",
    )
)


def split_words(text: str) -> list[str]:
    """Clean a text and cut it into the words that are encoded.

    Cleaning is OpenAI's: undo mojibake (ftfy) and HTML escapes, collapse white space, lower-case.
    Lone surrogates, which UTF-8 cannot hold, become U+FFFD.
    """
    if PLAIN.fullmatch(text):  # several times faster
        return PLAIN_WORDS.findall(uncurl_quotes(text).lower())
    return [word for word, _ in WORDS.pre_tokenize_str(clean(ftfy.fix_text(text)).lower())]


def _byte_characters() -> dict[int, str]:
    """Byte -> the character that stands for it in pieces, in the order of ids: visible first."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


BYTE_CHARACTERS = _byte_characters()
BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def _number_pieces(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Piece -> id: bytes, bytes that end a word, then what each merge makes."""
    characters = list(BYTE_CHARACTERS.values())
    pieces = [*characters, *(f"{character}</w>" for character in characters)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    for number, (left, right) in enumerate(merges, 1):
        unknown = [piece for piece in (left, right) if piece not in ids]
        if unknown:
            piece = reprlib.repr(unknown[0])
            raise InputError(f"merge {number} joins {piece}, which no merge before it makes")
        if left + right in ids:
            piece = reprlib.repr(left + right)
            raise InputError(f"merge {number} makes {piece}, which is there already")
        ids[left + right] = len(ids)
    return ids


class BPETokenizer:
    """A byte-pair vocabulary as OpenAI's: 256 bytes, 256 that end a word, the merges, start, end.

    Gives the ids of open_clip's SimpleTokenizer for the same merges, also where a text holds
    "<start_of_text>" or "<end_of_text>": as there, these become the special ids.

    merges: pairs of pieces, most frequent first. Raises InputError if one joins pieces that do not
    exist at its place. Safe to call from several threads; pickles without its caches.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], context_length: int = 77):
        self.merges = list(merges)
        self.context_length = context_length
        self._pieces = _number_pieces(self.merges)
        start = len(self._pieces)
        self.vocab_size = start + 2
        self._special = {"<start_of_text>": start, "<end_of_text>": start + 1}
        self._model = BPE(vocab=self._pieces, merges=self.merges, end_of_word_suffix="</w>")
        self._by_id = list(self._pieces)
        self._frequent = functools.lru_cache(CACHED_WORDS)(self._encode_word)

    def __reduce__(self) -> tuple[type["BPETokenizer"], tuple[list[tuple[str, str]], int]]:
        return BPETokenizer, (self.merges, self.context_length)

    def __call__(self, texts: str | Sequence[str], truncate: bool = False) -> np.ndarray:
        """Texts -> int32 [n, context_length]: start, ids, end, zeros.

        Raises ValueError, naming the text, if one is too long; truncate=True cuts it.
        """
        texts = as_list(texts, self.context_length, truncate)
        ids = [self._encode(text) for text in texts]
        return pad_ids(texts, ids, self.vocab_size, self.context_length, truncate)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in split_words(text):
            ids += (self._frequent if len(word) <= CACHED_LENGTH else self._encode_word)(word)
        return ids

    def _encode_word(self, word: str) -> list[int]:
        if word in self._special:
            return [self._special[word]]
        characters = "".join(BYTE_CHARACTERS[byte] for byte in word.encode("utf-8"))
        return [token.id for token in self._model.tokenize(characters)]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """A row's words as split_words gives them, a space behind each; no UTF-8 becomes U+FFFD."""
        text = bytearray()
        for token in own_ids(ids, self.vocab_size):
            piece = self._by_id[token]
            text += bytes(BYTES[character] for character in piece.removesuffix("</w>"))
            text += b" " * piece.endswith("</w>")
        return text.decode("utf-8", errors="replace").removesuffix(" ")

    def is_openai(self) -> bool:
        """Whether the merges are those of OpenAI's models."""
        lines = "\n".join(f"{left} {right}" for left, right in self.merges)
        return hashlib.sha256(lines.encode()).hexdigest() == OPENAI_DIGEST

    def save(self, directory: Path) -> None:
        """Write the files by which transformers and open_clip's HFTokenizer know a CLIP vocabulary.

        tokenizer.json, vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json.
        Ordinary text gets the same ids there; as in OpenAI's own such files, the end id pads.
        """
        directory.mkdir(parents=True, exist_ok=True)
        special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.context_length,
            "do_lower_case": True,
            **special,
        }
        merges = [f"{left} {right}\n" for left, right in self.merges]
        _write(directory / "merges.txt", "".join(["#version: 0.2\n", *merges]))
        _write(directory / "vocab.json", json.dumps(self.ids(), ensure_ascii=False))
        _write(directory / "tokenizer.json", self._as_tokenizer().to_str())
        _write(directory / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
        _write(directory / "special_tokens_map.json", json.dumps(special, indent=2) + "\n")

    def ids(self) -> dict[str, int]:
        """Every piece's id, start and end under their names in vocabulary files."""
        return {**self._pieces, START: self.vocab_size - 2, END: self.vocab_size - 1}

    def _as_tokenizer(self) -> Tokenizer:
        """The same in `tokenizers` alone, which knows neither ftfy nor HTML."""
        ids = self.ids()
        tokenizer = Tokenizer(
            BPE(vocab=ids, merges=self.merges, unk_token=END, end_of_word_suffix="</w>")
        )
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [WORDS, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.RobertaProcessing(
            (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False
        )
        tokenizer.add_special_tokens([START, END])
        return tokenizer

    @classmethod
    def from_merges(cls, path: Path, context_length: int = 77) -> "BPETokenizer":
        """Read a file of merges, one a line: OpenAI's bpe_simple_vocab_16e6.txt.gz or a merges.txt.

        Of OpenAI's, known by its header, the first 48,894 count. Raises InputError.
        """
        return _build(path, _read_merges(path), context_length)

    @classmethod
    def load(cls, path: Path, context_length: int = 77) -> "BPETokenizer":
        """Read a vocabulary: one of these files, or a directory that holds one.

        tokenizer.json; vocab.json with merges.txt beside it; a file of merges, which in a directory
        is found by the name bpe_simple_vocab*. Raises InputError, also if the ids that the file
        gives are not in OpenAI's order.
        """
        file = find_vocabulary(path) if path.is_dir() else path
        if file is None:
            raise InputError(f"{path}: no vocabulary here; it takes {VOCABULARY_FORMS}")
        if file.suffix != ".json":
            return cls.from_merges(file, context_length)
        content = _read_object(file)
        if isinstance(content.get("model"), dict):
            ids, merges = _parse_tokenizer(file, content)
        else:
            ids, merges = content, _read_merges(file.with_name("merges.txt"))
        tokenizer = _build(file, merges, context_length)
        _check_ids(file, ids, tokenizer.ids())
        return tokenizer


def find_vocabulary(directory: Path) -> Path | None:
    """The file of a directory from which BPETokenizer.load reads it; None if it holds none."""
    openai = [
        *directory.glob("*bpe_simple_vocab*.txt"),
        *directory.glob("*bpe_simple_vocab*.txt.gz"),
    ]
    pair = [directory / "vocab.json"] if (directory / "merges.txt").is_file() else []
    files = [directory / "tokenizer.json", *pair, *sorted(openai)]
    return next((file for file in files if file.is_file()), None)


def _build(path: Path, merges: Sequence[tuple[str, str]], context_length: int) -> BPETokenizer:
    try:
        return BPETokenizer(merges, context_length)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: too large for a vocabulary ({MAX_BYTES >> 20} MiB)")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged, or not compressed by gzip"
        raise InputError(f"{path}: {reason}") from None


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in _read(path).split("\n") if line.strip()]
    header = lines.pop(0) if lines and "#version" in lines[0] else ""
    if "bpe_simple_vocab_16e6" in header:
        lines = lines[:OPENAI_MERGES]
    if not lines:
        raise InputError(f"{path}: no merges in it; it takes lines of two pieces")
    return _parse_merges(path, lines)


def _parse_merges(path: Path, merges: Sequence[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Merges as pairs; files have them as "left right" or as [left, right]."""
    pairs = []
    for number, merge in enumerate(merges, 1):
        pieces = merge.split() if isinstance(merge, str) else merge
        if len(pieces) != 2 or not all(isinstance(piece, str) for piece in pieces):
            raise InputError(f"{path}: merge {number} is not two pieces; the file holds no merges")
        pairs.append((pieces[0], pieces[1]))
    return pairs


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except InputError:
        raise
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object, as vocab.json and tokenizer.json are")
    return content


def _parse_tokenizer(
    path: Path, content: dict[str, Any]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The ids, those of added tokens included, and the merges of a tokenizer.json."""
    try:
        model, added = content["model"], content.get("added_tokens", [])
        ids = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        return ids, _parse_merges(path, model["merges"])
    except (KeyError, TypeError):
        raise InputError(f"{path}: holds no byte-pair model (vocab and merges)") from None


def _check_ids(path: Path, ids: dict[str, int], expected: dict[str, int]) -> None:
    """Raise InputError unless a file's ids are those that its merges get here."""
    for piece in [*expected, *ids]:
        if ids.get(piece) != expected.get(piece):
            raise InputError(
                f"{path}: {reprlib.repr(piece)} has the id {reprlib.repr(ids.get(piece))}, in "
                "OpenAI's order of these merges "
                f"{expected.get(piece)}; the file is of another kind or has tokens added"
            )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)  # whole or not at all
