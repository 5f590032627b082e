"""The open_clip side of input.py: its train transform, and webdataset with its DataLoader."""

import io
import json
import os
import sys
import time
from pathlib import Path

import open_clip
import torch
import webdataset
from open_clip.transform import AugmentationCfg, image_transform
from PIL import Image

part, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
transform = image_transform(224, is_train=True, aug_cfg=AugmentationCfg(scale=(0.9, 1.0)))


def time_transform() -> float:
    """Pictures per second of processor time."""
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    count, start = -len(pictures), time.process_time()  # the first pass warms up
    while (elapsed := time.process_time() - start) < seconds:
        for picture in pictures:
            transform(Image.open(io.BytesIO(picture)))
        count += len(pictures)
        if count == 0:
            start = time.process_time()
    return count / elapsed


def time_pipeline() -> float:
    """Pairs per second from shards to batches of pixels and tokens, with two workers."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = webdataset.DataPipeline(
        webdataset.ResampledShards(shards),
        webdataset.tarfile_to_samples(),
        webdataset.shuffle(500),
        webdataset.select(lambda sample: "txt" in sample),
        webdataset.decode("pilrgb", handler=webdataset.ignore_and_continue),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.map_dict(image=transform, text=lambda text: tokenizer(text)[0]),
        webdataset.to_tuple("image", "text"),
        webdataset.batched(128, partial=False),
    )
    loader = iter(webdataset.WebLoader(dataset, batch_size=None, num_workers=2))
    for _ in range(6):
        next(loader)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        count += len(next(loader)[0])
    return count / elapsed


rate = time_transform() if part == "transform" else time_pipeline()
print(json.dumps({"rate": rate}), flush=True)
os._exit(0)  # the workers' endless pipelines would be waited for
