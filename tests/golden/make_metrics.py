"""Writes metrics.json: what CLIP_benchmark says of a model whose embeddings are known.

Run with clip_benchmark 1.6.2, open_clip 3.3.0 and torch 2.13:  python tests/golden/make_metrics.py
The model embeds picture n as row n and a text as the row of its number; 8 classes with prompts,
40 pictures with a class, any number of labels, and one to three captions each.
"""

import json
from pathlib import Path

import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

CLASSES = [f"class {number}" for number in range(8)]
TEMPLATES = ["a {c}", "the {c}", "one {c} of many"]
OWN = {name: [f"{name}, {i}" for i in range(1 + n % 3)] for n, name in enumerate(CLASSES)}
PICTURES, WIDTH = 40, 6


class Table:
    """Rows by number, in place of a model."""

    def __init__(self, pictures, texts):
        self.pictures, self.texts = pictures, texts

    def encode_image(self, numbers):
        return self.pictures[numbers]

    def encode_text(self, numbers):
        return self.texts[numbers]


class Loader(list):
    """Batches, with a data set that has classes."""

    def __init__(self, batches):
        super().__init__(batches)
        self.dataset = self
        self.classes = CLASSES


def main() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, len(CLASSES), (PICTURES,))
    rows = (torch.rand(PICTURES, len(CLASSES)) < 0.3).long()
    captions = [[f"caption {n}.{i}" for i in range(1 + n % 3)] for n in range(PICTURES)]
    prompts = [template.format(c=name) for name in CLASSES for template in TEMPLATES]
    prompts += [prompt for own in OWN.values() for prompt in own]
    texts = [*prompts, *(caption for own in captions for caption in own)]

    pictures, words = torch.randn(PICTURES, WIDTH), torch.randn(len(texts), WIDTH)
    for n, own in enumerate(captions):  # somewhat like their picture
        for caption in own:
            words[texts.index(caption)] += 0.8 * pictures[n]
    for n, name in enumerate(CLASSES):  # somewhat like the pictures of the class
        mean = pictures[labels == n].mean(dim=0)
        for prompt in [*(t.format(c=name) for t in TEMPLATES), *OWN[name]]:
            words[texts.index(prompt)] += mean
    model = Table(pictures, words)

    def tokenizer(some):
        return torch.tensor([texts.index(text) for text in some])

    def classify(targets, templates):
        numbers = torch.arange(PICTURES)
        loader = Loader(zip(numbers.split(16), targets.split(16), strict=True))
        return zeroshot_classification.evaluate(
            model, loader, tokenizer, CLASSES, templates, "cpu", amp=False
        )

    def retrieve():
        starts = range(0, PICTURES, 16)
        loader = [(torch.arange(s, min(s + 16, PICTURES)), captions[s : s + 16]) for s in starts]
        return zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", False, [1, 5, 10])

    values = {
        "classes": CLASSES,
        "templates": TEMPLATES,
        "own_prompts": OWN,
        "labels": labels.tolist(),
        "rows": rows.tolist(),
        "captions": captions,
        "pictures": pictures.tolist(),
        "texts": dict(zip(texts, words.tolist(), strict=True)),
        "expected": {
            "labels": classify(labels, TEMPLATES),
            "labels_own_prompts": classify(labels, OWN),
            "rows": classify(rows, TEMPLATES),
            "captions": retrieve(),
        },
    }
    path = Path(__file__).with_name("metrics.json")
    path.write_text(json.dumps(values))
    print(path, path.stat().st_size, "bytes", values["expected"])


if __name__ == "__main__":
    main()
