"""Captions and vocabularies."""

import gzip
from pathlib import Path

from fuzz.target import Parser, reads_file, target

CAPTIONS = ("a red circle above a blue square", "café &amp; crème", "日本語 &#38;", "")


def bpe_file(folder: Path, name: str) -> Parser:
    """A byte-pair vocabulary's directory, one of whose files is replaced."""
    from clip_jax.data.text.bpe import BPETokenizer
    from clip_jax.data.text.vocabulary import open_tokenizer

    merges = [("a", "b"), ("ab", "c</w>"), ("t", "h"), ("th", "e</w>")]
    BPETokenizer(merges).save(folder)
    if name != "tokenizer.json":
        (folder / "tokenizer.json").unlink()

    def read(path: Path) -> None:
        open_tokenizer(folder, 16)(["the abc, ab"], truncate=True)

    return [(folder / name).read_bytes()], reads_file(folder / name, read)


@target()
def merges(folder: Path) -> Parser:
    from clip_jax.data.text.vocabulary import open_tokenizer

    seeds, _ = bpe_file(folder, "merges.txt")
    path = folder / "some_merges.txt"
    return [*seeds, b"a b\nab c\n"], reads_file(path, lambda path: open_tokenizer(path, 16)("abc"))


@target()
def merges_gzip(folder: Path) -> Parser:
    from clip_jax.data.text.vocabulary import open_tokenizer

    texts = (b"#version: 0.2\na b\nab c\n", b'"bpe_simple_vocab_16e6.txt#version: 0.2\na b\n')
    path = folder / "bpe_simple_vocab.txt.gz"
    return [gzip.compress(text) for text in texts], reads_file(
        path, lambda path: open_tokenizer(path, 16)("abc")
    )


@target()
def vocab_json(folder: Path) -> Parser:
    return bpe_file(folder, "vocab.json")


@target()
def tokenizer_json(folder: Path) -> Parser:
    return bpe_file(folder, "tokenizer.json")


@target(share=2)
def sentencepiece(folder: Path) -> Parser:
    from clip_jax.data.text.tokenizers import train_sentencepiece
    from clip_jax.data.text.vocabulary import open_tokenizer

    model = train_sentencepiece(CAPTIONS, 64, 16).model
    path = folder / "tokenizer.model"
    return [model], reads_file(
        path, lambda path: open_tokenizer(path, 16)(["a red circle", "é"], truncate=True)
    )


@target(share=2)
def caption_bpe(folder: Path) -> Parser:
    from clip_jax.data.samples import to_captions
    from clip_jax.data.text.bpe import BPETokenizer

    tokenizer = BPETokenizer([("a", "b"), ("t", "h"), ("th", "e</w>")], 16)
    seeds = [
        caption.encode() for caption in (*CAPTIONS, "l\u2019été â€œmojibakeâ€", "&amp;#38;#x26;")
    ]
    return seeds, lambda content: tokenizer(to_captions(content), truncate=True)


@target(share=2)
def caption_sentencepiece(folder: Path) -> Parser:
    from clip_jax.data.samples import to_captions
    from clip_jax.data.text.tokenizers import train_sentencepiece

    tokenizer = train_sentencepiece(CAPTIONS, 64, 16)
    seeds = [caption.encode() for caption in (*CAPTIONS, "&amp;#38; ½ ﬁ", "👩‍👩‍👧 \u0301")]
    return seeds, lambda content: tokenizer(to_captions(content), truncate=True)
