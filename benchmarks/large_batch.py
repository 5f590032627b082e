"""A batch of 32,768 on this machine: the demo's model, trained by train.py in micro-batches.

    python benchmarks/large_batch.py [--batch-size 32768] [--micro-batch 512] [--steps 8]

The pictures are drawn, the captions tokenized, and every step is one contrastive loss over the
whole batch. Prints the loss and the rate of each step and the largest resident memory of the
process, and writes them to --output as JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import machine

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32_768)
    parser.add_argument("--micro-batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    options = {
        "batch-size": arguments.batch_size,
        "micro-batch": arguments.micro_batch,
        "steps": arguments.steps,
        "optimizer.warmup-steps": 1,
        "log-every": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs" / "demo.py")]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--workdir={folder}/run", "--evaluation.zeroshot"]
        subprocess.run(command, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if "loss" in line]
    for line in steps:
        print(f"step {line['step']}: loss {line['loss']:.4f}, {line['samples_per_second']:,.0f}/s")
    print(f"largest resident memory: {peak / 2**20:,.0f} MiB")
    if arguments.output is not None:
        values = {"machine": machine(), **options, "peak": peak, "steps": steps}
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
