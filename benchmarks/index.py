"""The index of tar shards at scale: time to make it, time to open it again, memory that it takes.

    python benchmarks/index.py [--members 1000000] [--shards 100] [--folder PATH]

Shards of tiny members are generated in the folder (a temporary one by default; 1.2 GB for a million
members). Prints the figures beside their limits, 60 s and 100 MB for a million members, and writes
them to --output as JSON. Memory is the growth of a fresh process that opens the set: what it holds
when done, and its peak on the way. The shards have just been written, so they are read from memory.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MOST_SECONDS, MOST_MEGABYTES = 60, 100
"""For a million members."""

OPEN = """
import json, sys, time
from clip_jax.data.tars.index import TarIndex
from clip_jax.data.samples import IMAGE_EXTENSIONS
from clip_jax.data.sources.webdataset import find_shards

def memory(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

before, start = memory("VmRSS"), time.perf_counter()
fields = {"image": IMAGE_EXTENSIONS, "caption": ("txt", "json")}
index = TarIndex(find_shards(sys.argv[1]), fields, keep=True)
seconds = time.perf_counter() - start
print(json.dumps({
    "samples": len(index),
    "seconds": round(seconds, 2),
    "held_megabytes": round(memory("VmRSS") - before, 1),
    "peak_megabytes": round(memory("VmHWM") - before, 1),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_shards(Path(folder), arguments.members, arguments.shards)
        results = {
            "members": arguments.members,
            "shards": arguments.shards,
            "first": open_index(folder),
            "again": open_index(folder),
        }
    report(results)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def write_shards(folder: Path, members: int, shards: int) -> None:
    """Tars of pairs, each an image of 900 bytes (of nothing) and a caption."""
    contents = {"jpg": bytes(900), "txt": b"a caption of some length"}
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for sample in range(members // shards // len(contents)):
                for extension, content in contents.items():
                    header = tarfile.TarInfo(f"{shard:05}{sample:06}.{extension}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))


def open_index(folder: str) -> dict[str, float]:
    """Open the set in a fresh process."""
    command = [sys.executable, "-c", OPEN, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def report(results: dict) -> None:
    scale = results["members"] / 1_000_000
    print(f"{results['members']} members in {results['shards']} shards")
    for name in ("first", "again"):
        turn = results[name]
        print(
            f"opened {name:5}  {turn['seconds']:6.2f} s (limit {MOST_SECONDS * scale:.0f})"
            f"  holds {turn['held_megabytes']:.0f} MB (limit {MOST_MEGABYTES * scale:.0f})"
            f"  peak {turn['peak_megabytes']:.0f} MB"
        )


if __name__ == "__main__":
    main()
