"""Writes tokens.json: a small vocabulary, hostile texts with the ids of open_clip's tokenizer, and
which characters its pattern takes for letters, numbers or nothing.

Run with open_clip 3.3.0 and regex 2026.11.15:  python tests/golden/make_tokens.py
The ids are those of the small vocabulary, trained here, and of OpenAI's.
"""

# ruff: noqa: RUF001 - the look-alikes below are meant

import collections
import gzip
import itertools
import json
import tempfile
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, default_bpe

CAPTIONS = """
a photo of a cat and a dog on the red mat; isn't that what they're here for?
the quick brown fox jumps over the lazy dog, 12345 times!!! ... and it's late
une fillette à l'école, près du café; Größe und Maß; una niña con una flor
Привет, мир; привет; 日本語の写真; 日本の旗; 👍👍🏽 👩‍👩‍👧 ❤️❤️
aaaa aaa aa banana bananas ananas abababab start_of_text end_of_text
"""
MERGES = 180

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "A Photo\tof\n a   CAT.",
    "a diagram of 1024 x 768 px, 3.14!",
    "it's they're I'VE he'll I'd don't isn't ''s 's's 'SS",
    "rock'n'roll y’all ’s ‘quoted’ “double” 'tis",
    "aaaaaaaaa banana bananananas ababababa",
    "fish & chips &amp; peas &AMP;amp; &amp;amp;lt; &lt;b&gt;",
    "&copy &copy; &EACUTE; &nosuch; &#39;s &#233; &#xe9;",
    "&#0; &#1; &#x80; &#xD800; &#x110000; &#38;lt; &#1234567890; & &c &",
    "<b>bold</b> &amp; <i>so</i> &eacute;",
    "caf\u00c3\u00a9 \u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d \u00c3\u0192\u00c2\u00a9",
    "l\u00e2\u20ac\u2122\u00e9t\u00e9 \u00d0\u009f\u00d1\u20ac\u00d0\u00b8",
    "ＦＵＬＬ　ｗｉｄｔｈ ﬁne ﬂow oﬃce ﬆyle …",
    "e\u0301 o\u0308\u0304 A\u030a \u1112\u1161\u11ab ก็ न्द्रा \u05e9\u05c1\u05dc\u05d5\u05dd",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ❤️ 1️⃣ 🏴\U000e0067\U000e0062\U000e007f a👍b",
    "日本語の写真 中文123字 한국어 ไทย العربية עברית हिन्दी Ελληνικά ΣΟΦΟΣ",
    "² ½ ٣ 四 Ⅷ 𝟙𝟚 ①② ৭ 𝔘𝔫𝔦 𐐷𐐯 ª º",
    "İstanbul ISTANBUL ıspanak STRASSE ẞ ß K Å ǅ ς",
    "'ſ 'ſt it'ſ ſ's maſs <ſtart_of_text> <ſTART_OF_TEXT>",
    "\u0345 a\u0345b α\u0345 !\u0345! 1\u03452 \u1fb3 \u1fbe",
    "<start_of_text> <end_of_text> <START_OF_TEXT>a<End_Of_Text>b1<end_of_text>2",
    "!<end_of_text> !!<start_of_text>!! <<end_of_text>> <end_of_text><start_of_text>!<end_of_text>",
    "<end_of_text <end of text> end_of_text> &lt;end_of_text&gt; 's<end_of_text>",
    "<|startoftext|> <|endoftext|> a<|endoftext|>b",
    "a\x00b\x01c\x0bd\x1ce\x1ff\x7fg h\x80i\x85j\x9fk",
    "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\r\nj\rk\x0cl",
    "a\u200bb\u200cc\u200dd\u2060e\ufefff\u180eg\u00adh\u061ci\u202ej",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "lone \ud800 and \udfffx, a pair \ud83d\ude00, \ufffd \ufffe \uffff",
    "\U000323b0\U000323b1 \U0002b81e \u208f1 \U00012550\U00012551 \U0003d000",
    "\ue000\uf8ff \U000f0000 \U0010ffff \u0378 \U0001fbff",
    "___ snake_case CamelCase kebab-case a.b,c;d:e @user #tag http://x.org/?q=1&r=2#f",
    "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
    "x" * 400,
    "word " * 90,
    "é" * 120 + "!" * 300,
]


def words(text: str) -> list[str]:
    """A text's words, each UTF-8 byte one character."""
    alphabet = bytes_to_unicode()
    return [
        "".join(alphabet[byte] for byte in word.encode("utf-8"))
        for word in OPENAI.pat.findall(OPENAI.clean_fn(text))
    ]


def train(text: str, count: int) -> list[tuple[str, str]]:
    """The merges of the most frequent pairs, recounted after each; no piece is made twice."""
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words(text)]
    merges: dict[str, tuple[str, str]] = {}
    while len(merges) < count:
        pairs = collections.Counter(pair for word in pieces for pair in itertools.pairwise(word))
        new = [pair for pair in pairs if "".join(pair) not in merges]
        left, right = min(new, key=lambda pair: (-pairs[pair], pair))
        merges[left + right] = (left, right)
        for word in pieces:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == (left, right):
                    word[i : i + 2] = [left + right]
                i += 1
    return list(merges.values())


def ranges(characters: list[int]) -> list[list[int]]:
    """Code points -> inclusive ranges."""
    found: list[list[int]] = []
    for code in characters:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def kinds() -> dict[str, list[list[int]]]:
    """Characters by what the pattern makes of two of them between letters."""
    found = collections.defaultdict(list)
    names = {1: "letters", 4: "numbers", 3: "others", 2: "dropped"}
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            found[names[len(OPENAI.pat.findall(f"a{chr(code) * 2}b"))]].append(code)
    return {name: ranges(found[name]) for name in ("letters", "numbers", "dropped")}


def small_tokenizer(merges: list[tuple[str, str]]) -> SimpleTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
        path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8")))
        return SimpleTokenizer(str(path))


OPENAI = SimpleTokenizer(default_bpe())
merges = train(CAPTIONS, MERGES)
small = small_tokenizer(merges)
golden = {
    "merges": merges,
    "texts": TEXTS,
    "ids": [small.encode(text) for text in TEXTS],
    "openai_ids": [OPENAI.encode(text) for text in TEXTS],
    **kinds(),
}
path = Path(__file__).with_name("tokens.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, "bytes,", small.vocab_size, "ids")
