"""Vocabularies by their name on the hub: "hf://org/name" -> a directory with their files."""

import re
from collections.abc import Iterable
from pathlib import Path

from clip_jax.data.text.tokenizers import SENTENCEPIECE
from clip_jax.data.text.vocabulary import BPE_FILES
from clip_jax.hub import fetch_files

VOCABULARY = (*BPE_FILES, SENTENCEPIECE)
"""The files of a vocabulary, of which all there are are needed; so too any other *.model."""


def local_vocabulary(source: str | Path) -> Path:
    """Where a vocabulary lies: a path is left as it is, of "hf://org/name" the files are fetched.

    No weights are downloaded. Raises InputError as fetch_files does.
    """
    if not str(source).startswith("hf://"):
        return Path(source)
    advice = "a repository with tokenizer.json is needed"
    return fetch_files(str(source), vocabulary_files, f"holds no vocabulary; {advice}")


def vocabulary_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those of its vocabulary."""
    return sorted(
        name for name in names if name in VOCABULARY or re.fullmatch(r"[^/]+\.model", name)
    )
