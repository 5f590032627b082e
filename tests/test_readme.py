"""The README's example runs as it stands, on a small model in the place of the released one."""

import dataclasses
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from shards import encode, smooth

import clip_jax
from clip_jax.data.text.tokenizers import train_sentencepiece

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def small_model(tmp_path):
    """A saved model whose vocabulary knows the example's words."""
    captions = ["a diagram", "a dog", "a cat", "photo of the animal"]
    model = clip_jax.create("ViT-tiny")
    tokenizer = train_sentencepiece(captions, 64, model.config.text.context_length)
    text = dataclasses.replace(model.config.text, vocab_size=tokenizer.vocab_size)
    model = clip_jax.create(dataclasses.replace(model.config, text=text))
    clip_jax.save(dataclasses.replace(model, tokenizer=tokenizer), tmp_path / "model")
    return tmp_path / "model"


def test_the_example_prints_probabilities(small_model, tmp_path, capsys):
    (tmp_path / "CLIP.png").write_bytes(encode(smooth((60, 40))))
    block = next(
        block for block in re.findall(r"(?:^(?:    .*)?\n)+", README, re.M) if "load(" in block
    )
    program = textwrap.dedent(block).replace("ViT-B/32", str(small_model))
    exec(program.replace("CLIP.png", str(tmp_path / "CLIP.png")), {})
    numbers = [
        float(number) for number in re.findall(r"\d\.\d+(?:e-\d+)?", capsys.readouterr().out)
    ]
    assert len(numbers) == 3
    np.testing.assert_allclose(sum(numbers), 1, rtol=1e-5)
