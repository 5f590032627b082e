"""Search in an index of a million pictures: time of a query, memory, and what compares all pairs.

    python benchmarks/search.py [--pictures 1000000] [--width 512] [--folder PATH] [--output FILE]

An index of random unit vectors is written in the folder (a temporary one by default; 1.1 GB for a
million). A fresh process opens it and answers queries; another holds the same vectors in float32,
multiplies them with numpy and takes the best by argpartition. Uniqueness and near-duplicates are
timed on --pairs of the pictures. The index has just been written, so it is read from memory.
Resident memory is split: pages of the mapped file, which the system may take back at any time, and
the process's own.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from turns import machine, take_turn

MOST_MILLISECONDS = 100
"""For a query among a million pictures."""
COUNT = 20
"""Pictures that a query finds."""

COMMON = """
import json, sys, time
import numpy as np

def memory(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

def query(number, width):
    row = np.random.default_rng(number).normal(size=width).astype(np.float32)
    return row / np.linalg.norm(row)

def answer_queries(find, width):
    results, milliseconds = [], []
    for number in range(21):
        asked = query(number, width)
        start = time.perf_counter()
        results.append(find(asked).tolist())
        milliseconds.append(1000 * (time.perf_counter() - start))
    first, rest = milliseconds[0], sorted(milliseconds[1:])
    return {
        "first_query_milliseconds": round(first, 1),
        "least_milliseconds": round(rest[0], 1),
        "median_milliseconds": round(rest[len(rest) // 2], 1),
        "found": results,
    }

folder, count, pairs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
"""

OURS = """
from pathlib import Path
import jax
from clip_jax.evaluation.pictures.index import PictureIndex
from clip_jax.evaluation.pictures.rank import largest, nearness, similar_groups, similarities

jax.numpy.zeros(1).block_until_ready()
own, mapped, start = memory("RssAnon"), memory("RssFile"), time.perf_counter()
index = PictureIndex.open(Path(folder))
opened = time.perf_counter() - start

def find(asked):
    rows = largest(similarities(index.rows, asked), count)
    [index.file(int(row)) for row in rows]
    return rows

result = {"pictures": len(index), "open_seconds": round(opened, 2)}
result |= answer_queries(find, index.about.width)
result["own_megabytes"] = round(memory("RssAnon") - own)
result["mapped_megabytes"] = round(memory("RssFile") - mapped)
for name, compare in (
    ("uniqueness", nearness),
    ("near_duplicates", lambda rows: similar_groups(rows, 0.95)),
):
    start = time.perf_counter()
    compare(index.rows[:pairs])
    result[f"{name}_seconds"] = round(time.perf_counter() - start, 1)
result["peak_own_and_mapped_megabytes"] = round(memory("VmHWM") - own - mapped)
print(json.dumps(result))
"""

NUMPY = """
own = memory("RssAnon")
about = json.load(open(f"{folder}/index.json"))
rows = np.fromfile(f"{folder}/rows-0.f16", np.float16).reshape(-1, about["width"])
rows = rows.astype(np.float32)

def find(asked):
    scores = rows @ asked
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best])]

result = answer_queries(find, about["width"])
print(json.dumps(result | {"own_megabytes": round(memory("RssAnon") - own)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_index(Path(folder), arguments.pictures, arguments.width)
        where = [folder, str(COUNT), str(arguments.pairs)]
        ours = take_turn([sys.executable, "-c", COMMON + OURS, *where])
        peer = take_turn([sys.executable, "-c", COMMON + NUMPY, *where])
    same = ours.pop("found") == peer.pop("found")
    results = {"machine": machine(), "width": arguments.width, "pairs": arguments.pairs}
    results |= {"same_pictures_found": same, "clip_jax": ours, "numpy": peer}
    report(results)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def write_index(folder: Path, pictures: int, width: int) -> None:
    """An index as PictureIndex keeps it, of random unit vectors."""
    from clip_jax.evaluation.pictures.index import About, PictureIndex

    PictureIndex.create(folder, About("/pictures", "random", width))
    rng = np.random.default_rng(0)
    entries = [(f"folder{n % 100}/picture{n}.jpg", "1000 1") for n in range(pictures)]
    with open(folder / "rows-0.f16", "wb") as file:
        for start in range(0, pictures, 65536):
            rows = rng.normal(size=(min(65536, pictures - start), width)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            file.write(rows.astype(np.float16).tobytes())
    (folder / "files-0.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in entries))


def report(results: dict) -> None:
    ours, peer = results["clip_jax"], results["numpy"]
    print(f"{ours['pictures']} pictures, opened in {ours['open_seconds']} s")
    for name, side in (("clip_jax", ours), ("numpy", peer)):
        print(
            f"{name:9} {side['median_milliseconds']:.0f} ms a query, at best "
            f"{side['least_milliseconds']:.0f} (limit {MOST_MILLISECONDS} for a million), "
            f"{side['own_megabytes']} MB of its own"
        )
    print(
        f"clip_jax maps {ours['mapped_megabytes']} MB; the same pictures found: "
        f"{results['same_pictures_found']}"
    )
    print(
        f"of {results['pairs']} pictures: uniqueness {ours['uniqueness_seconds']} s, "
        f"near-duplicates {ours['near_duplicates_seconds']} s; at most "
        f"{ours['peak_own_and_mapped_megabytes']} MB resident on the way"
    )


if __name__ == "__main__":
    main()
