"""Image-text pairs of webdataset tar shards, as img2dataset writes them."""

import json

from clip_jax.data.files import find_files
from clip_jax.data.samples import IMAGE_EXTENSIONS, Pair, to_captions
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.tars.index import TarIndex
from clip_jax.errors import InputError

CAPTIONS_TRIED = 100
"""Captions, spread over the shards, of which at least one must hold something."""


def find_shards(path: str) -> list[str]:
    """A tar, a brace glob ("shards/{00..31}.tar"), or a directory of tars -> paths of the tars."""
    return find_files(path, (".tar",))


class WebDatasetPairs:
    """Pairs of an image with a .txt that is its caption, or a .json with one or several.

    In a .json they are in the field that `names` has for captions. Raises InputError if no pair is
    left.
    """

    def __init__(self, path: str, names: FieldNames | None = None):
        caption_field = (names and names.caption) or "caption"
        fields = {"image": IMAGE_EXTENSIONS, "caption": ("txt", "json")}
        self._index = TarIndex(find_shards(path), fields, keep=True)
        self._caption_field = caption_field
        self.problems = self._index.problems
        if len(self) == 0:
            lacking = max(fields, key=lambda name: self.problems.get(f"no {name}", 0))
            raise InputError(
                f"{path}: no sample with an image ({', '.join(IMAGE_EXTENSIONS)}) and a caption "
                f'(.txt, or .json with "{caption_field}"); most lack the {lacking}'
            )
        tried = range(0, len(self), -(-len(self) // CAPTIONS_TRIED))
        if not any(self.captions(i) for i in tried):
            raise InputError(f"{path}: the caption files hold no caption ({len(tried)} read)")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Pair:
        content = self._index.read_all(index)
        captions = self._parse(index, content["caption"])
        return Pair(self._index.describe(index), content["image"], captions)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions alone, without reading the image."""
        return self._parse(index, self._index.read(index, "caption"))

    def digest(self) -> str:
        """A hash of the samples' names, and of where they lie in their shards."""
        return self._index.digest()

    def _parse(self, index: int, content: bytes) -> tuple[str, ...]:
        return parse_captions(content, self._index.extension(index, "caption"), self._caption_field)


def parse_captions(content: bytes, extension: str, field: str) -> tuple[str, ...]:
    """The captions in a .txt, or in a field of a .json."""
    if extension == "txt":
        return to_captions(content)
    try:
        return to_captions(json.loads(content.decode("utf-8", errors="replace"))[field])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ()
