"""Vocabularies in files: which tokenizer they call for, and what other libraries read them from."""

import json
from pathlib import Path

from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as TransformersTokenizer
from tokenizers.models import BPE

from clip_jax.data.text.bpe import END, START, VOCABULARY_FORMS, BPETokenizer, find_vocabulary
from clip_jax.data.text.tokenizers import SENTENCEPIECE, SentencePieceTokenizer, Tokenizer
from clip_jax.errors import InputError

SHARED_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
BPE_FILES = (*SHARED_FILES, "vocab.json", "merges.txt")
SENTENCEPIECE_FILES = (*SHARED_FILES, SENTENCEPIECE)
"""What save_vocabulary writes of each kind."""


def has_vocabulary(folder: Path) -> bool:
    """Whether a directory holds a vocabulary."""
    return (folder / SENTENCEPIECE).is_file() or find_vocabulary(folder) is not None


def open_tokenizer(path: Path, context_length: int) -> Tokenizer:
    """A SentencePiece .model, a file of a byte-pair vocabulary, or a directory with one of these.

    Raises InputError if there is none, or a damaged one.
    """
    model = path / SENTENCEPIECE if path.is_dir() else path
    if model.suffix == ".model" and (model.is_file() or not path.is_dir()):
        return SentencePieceTokenizer.load(model, context_length)
    if path.is_dir() and not has_vocabulary(path):
        raise InputError(
            f"{path}: no vocabulary here; it takes {SENTENCEPIECE}, {VOCABULARY_FORMS}"
        )
    return BPETokenizer.load(path, context_length)


def files_of(tokenizer: Tokenizer | None) -> tuple[str, ...]:
    """Names of the files that save_vocabulary writes."""
    if tokenizer is None:
        return ()
    return SENTENCEPIECE_FILES if isinstance(tokenizer, SentencePieceTokenizer) else BPE_FILES


def save_vocabulary(tokenizer: Tokenizer, directory: Path) -> None:
    """Write a vocabulary so that transformers and open_clip's HFTokenizer read it as well.

    Ordinary text gets the same ids there. transformers undoes no HTML escapes, and of SentencePiece
    it leaves out combining marks on characters that take none. SentencePiece models other than
    those of train_sentencepiece are written for this project alone.
    """
    tokenizer.save(directory)
    if not isinstance(tokenizer, SentencePieceTokenizer):
        return
    model = ModelProto.FromString(tokenizer.model)
    if not _is_plain(model):
        return
    special = {"bos_token": START, "eos_token": END, "unk_token": "<unk>", "pad_token": END}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.context_length,
        **special,
    }
    contents = (_as_transformers(model).to_str(), json.dumps(config), json.dumps(special))
    for name, content in zip(SHARED_FILES, contents, strict=True):
        (directory / name).write_text(content, encoding="utf-8")


def _is_plain(model: ModelProto) -> bool:
    """Whether a SentencePiece model is of the kind that train_sentencepiece makes."""
    trainer, normalizer, kinds = model.trainer_spec, model.normalizer_spec, ModelProto.SentencePiece
    return (
        trainer.model_type == trainer.BPE
        and trainer.unk_piece == "<unk>"
        and not trainer.treat_whitespace_as_suffix
        and normalizer.add_dummy_prefix
        and normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces
        and {piece.type for piece in model.pieces} <= {kinds.NORMAL, kinds.UNKNOWN, kinds.CONTROL}
    )


def _as_transformers(model: ModelProto) -> TransformersTokenizer:
    """A SentencePiece byte-pair vocabulary in `tokenizers`, the library behind transformers."""
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    normal = [piece for piece in model.pieces if piece.type == piece.NORMAL]
    best_first = [piece.piece for piece in sorted(normal, key=lambda piece: -piece.score)]
    # SentencePiece has no list of merges: any two pieces are joined that make a third.
    merges = [
        (piece[:i], piece[i:])
        for piece in best_first
        for i in range(1, len(piece))
        if piece[:i] in ids and piece[i:] in ids
    ]
    tokenizer = TransformersTokenizer(
        BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([START, END])  # which get the two ids after the pieces'
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, len(ids)), (END, len(ids) + 1)],
    )
    return tokenizer
