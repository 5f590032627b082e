"""Tokenizer speed beside open_clip's: the same vocabulary and captions, one thread each.

    python benchmarks/tokenizer.py CAPTIONS --peer-python PATH

CAPTIONS is wds:SHARDS, or a text file of one caption a line. PATH is the Python of an environment
with open_clip, whose vocabulary both sides read. They run alternately (A B B A), each in its own
process; that both give the same ids is checked first, with --hostile N also for N random strings
of mojibake, entities, emoji and the like, and for every character there is (minutes). Prints
captions per second of processor time and their ratio, with caches filled and over the first pass,
and writes them to --output as JSON, with a chart beside it.
"""

# ruff: noqa: RUF001 - the look-alikes below are meant

import argparse
import html.entities
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from picture import draw_ratios
from turns import take_turn

PEER = Path(__file__).with_name("tokenizer_peer.py")
LENGTH = 77
BATCH = 256
TURNS = ("peer", "ours", "ours", "peer")  # the peer first: it has the vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", nargs="?")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=5, help="of each of the four turns")
    parser.add_argument("--hostile", type=int, default=0, metavar="N")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn is not None:
        take_our_turn(arguments.turn, arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        (files / "captions.json").write_text(json.dumps(read_captions(arguments.captions)))
        hostile = hostile_texts(arguments.hostile)
        (files / "hostile.json").write_text(json.dumps(hostile))
        commands = {
            "peer": [arguments.peer_python, str(PEER), folder],
            "ours": [sys.executable, __file__, "--turn", folder],
        }
        seconds, results = ["--seconds", str(arguments.seconds)], []
        for turn, side in enumerate(TURNS):
            results.append(take_turn([*commands[side], *seconds]))
            if turn == 1:
                check_ids(files, len(hostile))
                (files / "hostile.json").write_text("[]")  # once is enough
    report(results, arguments.captions, arguments.output)


def read_captions(spec: str) -> list[str]:
    """The captions of webdataset shards or of a text file."""
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    if spec.endswith(".txt"):
        return Path(spec).read_text(encoding="utf-8").splitlines()
    pairs = WebDatasetPairs(spec.removeprefix("wds:"))
    return [caption for i in range(len(pairs)) for caption in pairs.captions(i)]


def hostile_texts(count: int) -> list[str]:
    """Random strings of what goes wrong, then every character alone and between letters."""
    if not count:
        return []
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        pieces = [rng.choice(PARTS)(rng) for _ in range(rng.randint(1, 8))]
        texts.append(rng.choice(["", "", " "]).join(pieces))
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    between = [f"a{character}b" for character in characters]
    return [*texts, *characters, *(" ".join(between[i : i + 8]) for i in range(0, len(between), 8))]


def mojibake(rng: random.Random) -> str:
    """A word read in the wrong encoding, once or twice."""
    text = rng.choice(
        ["café", "naïve “quote”", "Größe", "日本語", "l’été", "👩‍🚀", "Привет", "ſ'ſ"]
    )
    for _ in range(rng.randint(1, 2)):
        encoding = rng.choice(["cp1252", "latin-1", "cp437", "macroman", "cp1251"])
        text = text.encode("utf-8").decode(encoding, errors="replace")
    return text


def entity(rng: random.Random) -> str:
    """An HTML escape, known or not, closed or not, escaped again or not."""
    name = rng.choice([*html.entities.html5, "lt", "AMP;", "nonsense;", "EACUTE;", "nbsp;"])
    number = rng.choice([rng.randrange(0x120), rng.randrange(0x12000), rng.randrange(0x120000)])
    escape = rng.choice([f"&{name}", f"&#{number};", f"&#x{number:x}", f"&#X{number:X};"])
    return rng.choice([escape, escape.replace("&", "&amp;"), escape.replace("&", "&amp;amp;")])


def any_of(*ranges: tuple[int, int]) -> Callable[[random.Random], str]:
    """One to four characters of some ranges of code points."""

    def draw(rng: random.Random) -> str:
        low, high = rng.choice(ranges)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 4)))

    return draw


def one_of(*choices: str) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(choices)


PARTS = [
    any_of((0x20, 0x7F)),
    any_of((0, 0x20), (0x7F, 0xA0)),
    any_of((0xA0, 0x250)),
    any_of((0x300, 0x370), (0x483, 0x48A), (0x1AB0, 0x1B00), (0xFE00, 0xFE10)),
    any_of((0x370, 0x3000)),
    any_of((0x3000, 0x10000)),
    any_of((0x10000, 0x110000)),
    any_of((0x10000, 0x20000), (0x1F000, 0x1FB00), (0x1D400, 0x1D800)),
    any_of((0xD800, 0xE000)),
    any_of((0x2000, 0x2070), (0xFF00, 0xFFF0), (0xFB00, 0xFB07)),
    mojibake,
    entity,
    one_of("é", "“", "”", "’", "–", "…", "™", " ü", "Ö ", "à ", "ÿ", "œ", "Ã ", "Â", "日", "👍"),
    one_of("👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪", "❤️", "1️⃣", "\u200d", "\ufe0f", "\U000e0067"),
    one_of("e\u0301", "o\u0308\u0304", "ก็", "\u0345", "α\u0345", "\u1fb3", "한", "\u1112\u1161"),
    one_of("'s", "’s", "'ſ", "'LL", "'ll'd", "''s", "n't", "'\u212a", "don't", "'"),
    one_of("<start_of_text>", "<END_OF_TEXT>", "<|endoftext|>", "<\u017ftart_of_text>", "<end_of"),
    one_of(" ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x85", "\u2028", "\u180e", "\ufeff", "\u200b"),
    one_of("İ", "ẞ", "Σ", "ΑΣ", "ς", "ı", "K", "ſ", "ǅ", "ﬆ", "Ⅷ", "²", "½", "٣", "四"),
    one_of(
        "a", "dog", "A PHOTO of", "42", "3.14", "&", "& ", "&c", "#", "!!!", "...", "_", "\x1b[1m"
    ),
]


def take_our_turn(files: Path, seconds: float) -> None:
    """This project's side: the first pass, captions per second, and the ids of all texts."""
    import time

    from clip_jax.data.text.bpe import BPETokenizer

    tokenizer = BPETokenizer.load(files, LENGTH)
    captions = json.loads((files / "captions.json").read_text())
    hostile = json.loads((files / "hostile.json").read_text())
    batches = [captions[i : i + BATCH] for i in range(0, len(captions), BATCH)]
    start = time.process_time()
    ids = [tokenizer(batch, truncate=True) for batch in batches]
    first = len(captions) / (time.process_time() - start)
    count, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        count += len(tokenizer(batches[count // BATCH % len(batches)], truncate=True))
    ids += [tokenizer(hostile[i : i + BATCH], truncate=True) for i in range(0, len(hostile), BATCH)]
    np.savez_compressed(files / "ours.npz", np.concatenate(ids).astype(np.uint16))
    print(json.dumps({"first_pass": first, "captions_per_second": count / elapsed}))


def check_ids(files: Path, hostile: int) -> None:
    """Stop if the two sides' ids differ anywhere."""
    peer, ours = (np.load(files / f"{side}.npz")["arr_0"] for side in ("peer", "ours"))
    different = np.flatnonzero((peer != ours).any(1))
    if len(different):
        texts = [
            *json.loads((files / "captions.json").read_text()),
            *json.loads((files / "hostile.json").read_text()),
        ]
        sys.exit(f"{len(different)} texts differ, the first is {texts[different[0]]!r}")
    print(f"identical ids   {len(ours) - hostile} captions, {hostile} hostile texts")


def report(results: list[dict[str, float]], captions: str, output: Path | None) -> None:
    """Print and write medians over the turns."""
    values: dict[str, str | float] = {"captions": captions}
    bars = []
    for measure in ("captions_per_second", "first_pass"):
        sides = {}
        for side, name in (("peer", "open_clip"), ("ours", "clip_jax")):
            rates = [r[measure] for r, s in zip(results, TURNS, strict=True) if s == side]
            sides[name] = statistics.median(rates)
            turns = ", ".join(f"{rate:.0f}" for rate in rates)
            print(f"{name:15} {sides[name]:9.0f} captions/s   ({turns}; {measure})")
        ratio = sides["clip_jax"] / sides["open_clip"]
        print(f"ratio           {ratio:9.2f}")
        values |= {f"{measure}/{name}": rate for name, rate in sides.items()}
        values[f"{measure}/ratio"] = ratio
        told = f"{sides['clip_jax']:,.0f}/s : {sides['open_clip']:,.0f}/s"
        bars.append((measure.replace("_", " "), ratio, told))
    if output is not None:
        output.write_text(json.dumps(values, indent=1) + "\n")
        meaning = "captions a second, times those of open_clip"
        draw_ratios(bars, meaning, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
