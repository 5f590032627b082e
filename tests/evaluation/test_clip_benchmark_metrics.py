"""The metrics of CLIP_benchmark, to 1e-6, from the same embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
from shards import encode, solid

from clip_jax.data.samples import CaptionedImages, LabelledImages
from clip_jax.evaluation.retrieval import evaluate_retrieval
from clip_jax.evaluation.zeroshot import evaluate_zeroshot

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
PICTURES = [encode(solid(number)) for number in range(len(GOLDEN["pictures"]))]


@pytest.fixture
def golden_model(table_model):
    return table_model(GOLDEN["pictures"], GOLDEN["texts"])


@pytest.mark.parametrize(
    ("task", "targets", "prompts"),
    [
        ("labels", "labels", "templates"),
        ("labels_own_prompts", "labels", "own_prompts"),
        ("rows", "rows", "templates"),
    ],
)
def test_classification(golden_model, task, targets, prompts):
    labels = np.array(GOLDEN[targets], int if targets == "labels" else bool)
    data = LabelledImages("golden", PICTURES, labels, GOLDEN["classes"], GOLDEN[prompts])
    metrics = evaluate_zeroshot(golden_model, data)
    assert metrics == pytest.approx(GOLDEN["expected"][task], abs=1e-6)
    assert all(0.2 < value < 0.99 for value in metrics.values())


def test_retrieval(golden_model):
    data = CaptionedImages("golden", PICTURES, GOLDEN["captions"])
    metrics = evaluate_retrieval(golden_model, data)
    assert metrics == pytest.approx(GOLDEN["expected"]["captions"], abs=1e-6)
    assert all(0.2 < value < 0.99 for value in metrics.values())
