"""The open_clip side of tokenizer.py: its SimpleTokenizer, as it comes."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe

BATCH = 256

files, seconds = Path(sys.argv[1]), float(sys.argv[3])
torch.set_num_threads(1)
shutil.copy(default_bpe(), files)
captions = json.loads((files / "captions.json").read_text())
hostile = json.loads((files / "hostile.json").read_text())
batches = [captions[i : i + BATCH] for i in range(0, len(captions), BATCH)]
tokenizer = SimpleTokenizer()
start = time.process_time()
ids = [tokenizer(batch).numpy() for batch in batches]
first = len(captions) / (time.process_time() - start)
count, start = 0, time.process_time()
while (elapsed := time.process_time() - start) < seconds:
    count += len(tokenizer(batches[count // BATCH % len(batches)]))
ids += [tokenizer(hostile[i : i + BATCH]).numpy() for i in range(0, len(hostile), BATCH)]
np.savez_compressed(files / "peer.npz", np.concatenate(ids).astype(np.uint16))
print(json.dumps({"first_pass": first, "captions_per_second": count / elapsed}))
