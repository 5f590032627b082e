"""Input speed beside open_clip's and webdataset's, and what the trainer waits for.

    python benchmarks/input.py --shards FOLDER --vocabulary FILE --peer-python PATH

FOLDER holds webdataset shards, FILE is OpenAI's vocabulary, PATH the Python of an environment with
open_clip and webdataset. Four parts, of which --parts chooses some:

transform   one core, generated 512 x 384 JPEGs -> random crop -> 224: pictures per second of
            processor time beside open_clip's transform, for JPEGs of little and of much detail;
            how many could be decoded alone, and how far pixels are from Pillow's
pipeline    two cores, the shards -> batches of pixels and tokens: pairs per second beside
            webdataset with open_clip's transform and tokenizer in two DataLoader workers
scale       pairs per second of processor time, of 1,000 and 1,000,000 tiny pictures, in memory and
            in tars; and the slowest batch at the start of epoch 2, relative to that of others
waiting     the share of its time that a trainer waits for batches, whose steps (a sleep) take a
            quarter longer than the making of their batches

The first two run alternately (A B B A, the first four times), each turn in its own process.
Medians, their ratio and the machine's load go to --output as JSON, and the ratios beside it as PNG.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from picture import draw_ratios
from turns import machine, take_turn

from clip_jax.data.images import Resize, decode_for_crop, random_crop
from clip_jax.data.pipeline import Batches
from clip_jax.data.resample import resize_square
from clip_jax.data.samples import Pair, PairSource
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.text.bpe import BPETokenizer

PEER = Path(__file__).with_name("input_peer.py")
TURNS = ("peer", "ours", "ours", "peer")
PARTS = ("transform", "pipeline", "scale", "waiting")
PICTURES = 40
QUALITIES = {"light": 75, "heavy": 95}
MIN_AREA = 0.9
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--tar-pairs", type=int, default=1_000_000, help="in the larger of tars")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tokenizer = BPETokenizer.load(arguments.vocabulary)
    if arguments.turn is not None:
        part, folder = arguments.turn
        take_our_turn(part, Path(folder), tokenizer, arguments.seconds)
        return
    values: dict[str, Any] = {"machine": machine(), "load": os.getloadavg()}
    for found in measure_parts(arguments, tokenizer):
        for name, value in found.items():
            print(f"{name:40} {value}", flush=True)
        values |= found
        if arguments.output is not None:
            arguments.output.write_text(json.dumps(values, indent=1) + "\n")
            draw(values, arguments.output.with_suffix(".png"))


def draw(values: dict[str, Any], path: Path) -> None:
    """The ratios to open_clip that are known so far."""
    bars = []
    for name in (name.removesuffix("/open_clip") for name in values if name.endswith("/open_clip")):
        ours, theirs = values[f"{name}/clip_jax"], values[f"{name}/open_clip"]
        bars.append((name, values[f"{name}/ratio"], f"{ours:,.0f}/s : {theirs:,.0f}/s"))
    if bars:
        draw_ratios(bars, "pairs a second, times those of open_clip", path)


def measure_parts(
    arguments: argparse.Namespace, tokenizer: BPETokenizer
) -> Iterator[dict[str, Any]]:
    """What --parts ask for, one after the other, and the machine's load at the end."""
    if "transform" in arguments.parts:
        for name, quality in QUALITIES.items():
            with tempfile.TemporaryDirectory() as folder:
                write_pictures(Path(folder), quality)
                found = alternate("transform", Path(folder), arguments, rounds=4)
                found |= describe_pictures(Path(folder))
            yield {f"transform/{name}/{measure}": value for measure, value in found.items()}
    if "pipeline" in arguments.parts:
        found = alternate("pipeline", arguments.shards, arguments)
        yield {f"pipeline/{measure}": value for measure, value in found.items()}
    if "scale" in arguments.parts:
        yield measure_scale(tokenizer, arguments.tar_pairs, arguments.seconds)
        yield {"scale/second_epoch": measure_second_epoch(tokenizer)}
    if "waiting" in arguments.parts:
        yield {"waiting_share": measure_waiting(arguments.shards, tokenizer, arguments.seconds)}
    yield {"load_after": os.getloadavg()}


def write_pictures(folder: Path, quality: int) -> None:
    """JPEGs with about the spectrum of photographs and with sharp edges."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(384)))
    frequency[0, 0] = 1
    for number in range(PICTURES):
        noise = np.fft.fft2(rng.normal(size=(3, 384, 512))) / frequency**1.6
        shared = noise[:1] + 0.3 * noise  # mostly grey, as photographs are
        pixels = np.fft.ifft2(shared).real
        pixels = 128 + 50 * pixels / pixels.std()
        for _ in range(20):
            top, left = rng.integers(0, (340, 460))
            height, width = rng.integers(4, 120, 2)
            pixels[:, top : top + height, left : left + width] += rng.normal(0, 40, (3, 1, 1))
        picture = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
        picture.save(folder / f"{number:03}.jpg", quality=quality)


def describe_pictures(folder: Path) -> dict[str, float]:
    """Kilobytes of a picture, how fast it is decoded, and levels from Pillow of the same crops."""
    rng, differences, sizes = np.random.default_rng(1), [], []
    start = time.process_time()
    for path in sorted(folder.glob("*.jpg")):
        decode_for_crop(path.read_bytes(), 224, MIN_AREA)
        sizes.append(path.stat().st_size / 1000)
    decoded = len(sizes) / (time.process_time() - start)
    for path in sorted(folder.glob("*.jpg")):
        side = int(rng.integers(364, 385))
        left, top = rng.integers(0, (512 - side, 384 - side), endpoint=True)
        ours = decode_for_crop(path.read_bytes(), 224, MIN_AREA)
        ours = resize_square(ours[top : top + side, left : left + side], 224)
        with PIL.Image.open(path) as picture:
            square = picture.crop((left, top, left + side, top + side))
            pillow = np.asarray(square.resize((224, 224), PIL.Image.Resampling.BICUBIC))
        differences.append(float(np.abs(ours.astype(float) - pillow).mean()))
    return {
        "kilobytes": statistics.mean(sizes),
        "decoding_alone": decoded,
        "levels_from_pillow": statistics.mean(differences),
        "levels_from_pillow_worst": max(differences),
    }


def alternate(
    part: str, folder: Path, arguments: argparse.Namespace, rounds: int = 1
) -> dict[str, Any]:
    """Rates of both sides in turns, and the ratio of their medians; more rounds have shorter turns.

    Processes that do the same differ in speed, by where in memory their arrays come to lie.
    """
    seconds = str(arguments.seconds / rounds)
    given = ["--shards", str(arguments.shards), "--vocabulary", str(arguments.vocabulary)]
    commands = {
        "peer": [arguments.peer_python, str(PEER), part, str(folder), seconds],
        "ours": [sys.executable, __file__, *given, "--turn", part, str(folder)],
    }
    commands["ours"] += ["--seconds", seconds]
    rates: dict[str, list[float]] = {"peer": [], "ours": []}
    for side in TURNS * rounds:
        rates[side].append(take_turn(commands[side])["rate"])
    medians = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "open_clip": medians["peer"],
        "clip_jax": medians["ours"],
        "ratio": medians["ours"] / medians["peer"],
        "turns": rates,
    }


def take_our_turn(part: str, folder: Path, tokenizer: BPETokenizer, seconds: float) -> None:
    if part == "transform":
        rate = time_transform(folder, seconds)
    else:
        rate = time_batches(WebDatasetPairs(str(folder)), tokenizer, seconds)
    print(json.dumps({"rate": rate}))


def time_transform(folder: Path, seconds: float) -> float:
    """Pictures per second of processor time."""
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    rng, resize = np.random.default_rng(0), Resize(224)
    count, start = -len(pictures), time.process_time()  # the first pass warms up
    while (elapsed := time.process_time() - start) < seconds:
        for picture in pictures:
            random_crop(picture, resize, MIN_AREA, rng)
        count += len(pictures)
        if count == 0:
            start = time.process_time()
    return count / elapsed


def time_batches(
    source: PairSource,
    tokenizer: BPETokenizer,
    seconds: float,
    size: int = 224,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Pairs per second, from a source to batches, by two threads."""
    batches = Batches(source, tokenizer, Resize(size), BATCH, seed=0, workers=0, threads=2)
    with contextlib.closing(batches.start_at(0)) as made:
        for _ in range(6):
            next(made)
        count, start = 0, clock()
        while (elapsed := clock() - start) < seconds:
            count += len(next(made).images)
    return count / elapsed


class InMemory:
    """So many pairs of one tiny picture."""

    def __init__(self, count: int):
        self._count, self._image = count, tiny_picture()
        self.problems: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Pair:
        return Pair(str(index), self._image, self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (f"picture number {index % 1000}",)


def tiny_picture() -> bytes:
    file = io.BytesIO()
    PIL.Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def write_tars(folder: Path, count: int) -> Path:
    """Pairs in tars of 100,000."""
    folder.mkdir()
    image, source = tiny_picture(), InMemory(count)
    for first in range(0, count, 100_000):
        with tarfile.open(folder / f"{first:07}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, min(first + 100_000, count)):
                for name, content in (("jpg", image), ("txt", source.captions(number)[0].encode())):
                    member = tarfile.TarInfo(f"{number:07}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def measure_scale(tokenizer: BPETokenizer, tar_pairs: int, seconds: float) -> dict[str, float]:
    """Pairs per second of few and of many tiny pictures, in turns, and the ratio of the rates."""
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        few = WebDatasetPairs(str(write_tars(Path(folder) / "few", 1000)))
        many = WebDatasetPairs(str(write_tars(Path(folder) / "many", tar_pairs)))
        pairs: dict[str, tuple[PairSource, PairSource]] = {
            "memory": (InMemory(1000), InMemory(1_000_000)),
            "tars": (few, many),
        }
        for name, sources in pairs.items():
            rates: dict[int, list[float]] = {0: [], 1: []}
            for turn in (0, 1, 1, 0, 0, 1):
                rate = time_batches(sources[turn], tokenizer, seconds, 16, time.process_time)
                rates[turn].append(rate)
            fewer, more = (statistics.median(rates[turn]) for turn in (0, 1))
            values |= {f"scale/{name}/{len(sources[0])}": fewer}
            values |= {f"scale/{name}/{len(sources[1])}": more, f"scale/{name}/ratio": more / fewer}
    return values


def measure_second_epoch(tokenizer: BPETokenizer, around: int = 10) -> float:
    """The slowest of the batches before and after epoch 2 begins, over the slowest of others."""
    source = InMemory(1_000_000)
    last = len(source) // BATCH
    batches = Batches(source, tokenizer, Resize(16), BATCH, seed=0, workers=0, threads=2)
    times = []
    with contextlib.closing(batches.start_at(last - 200)) as ready:
        for _ in range(400):
            start = time.perf_counter()
            next(ready)
            times.append(time.perf_counter() - start)
    return max(times[200 - around : 200 + around]) / max(times[20 : 200 - around])


def measure_waiting(shards: Path, tokenizer: BPETokenizer, seconds: float) -> float:
    """The share of a trainer's time that it waits for batches on its device, once warm."""
    from clip_jax.parallel.mesh import MeshConfig, make_mesh
    from clip_jax.training.feed import on_devices
    from clip_jax.training.lengths import LengthGroups

    source = WebDatasetPairs(str(shards))
    step = 1.25 * BATCH / time_batches(source, tokenizer, seconds)
    batches = Batches(source, tokenizer, Resize(224), BATCH, seed=0, workers=0, threads=2)
    mesh = make_mesh(MeshConfig())
    groups = LengthGroups((BATCH // mesh.size,), (tokenizer.context_length,))
    waited, total = 0.0, 0.0
    with contextlib.closing(on_devices(batches.start_at(0), mesh, groups)) as feed:
        for number in range(10 + int(seconds / step)):
            start = time.perf_counter()
            next(feed)
            ready = time.perf_counter()
            time.sleep(step)
            if number >= 10:
                waited += ready - start
                total += time.perf_counter() - start
    return waited / total


if __name__ == "__main__":
    main()
