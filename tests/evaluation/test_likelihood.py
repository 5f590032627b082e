"""Scores of predicting models against sums over single prompts and images in float64."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from random_model import random_model
from shards import encode, smooth, solid

from clip_jax.data.images import load_image
from clip_jax.data.samples import CaptionedImages, LabelledImages
from clip_jax.errors import InputError
from clip_jax.evaluation import likelihood
from clip_jax.evaluation.embed import on_all_devices
from clip_jax.evaluation.pictures.wordings import compare, wordings_of
from clip_jax.evaluation.retrieval import embed_pairs
from clip_jax.evaluation.zeroshot import build_classifier, metrics_of, score_images
from clip_jax.model import Model
from clip_jax.models.clip import CLIP
from clip_jax.models.config import BagOfWordsConfig, DecoderConfig
from clip_jax.models.presets import PRESETS

NAMES = ["cat", "tree", "fox"]
TEMPLATES = ["a photo of a {c}", "{c}, {c}"]
TEXT = PRESETS["ViT-tiny"].text
MAKERS = {
    "words": {"text": BagOfWordsConfig(TEXT.context_length, TEXT.vocab_size)},
    "captions": {"text": dataclasses.replace(TEXT, read="none"), "decoder": DecoderConfig(2)},
}


@pytest.fixture(scope="module", params=MAKERS)
def model(request):
    """A predicting model of random weights."""
    return random_model(**MAKERS[request.param])


def pictures():
    return [encode(smooth((20, 30)), "jpeg")] + [encode(solid(60 * n)) for n in range(4)]


def labelled(images):
    labels = np.arange(len(images)) % 3
    return LabelledImages("some", images, labels, NAMES, TEMPLATES)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@partial(jax.jit, static_argnums=0)
def predict(model, variables, pixels, tokens):
    """Logits of all words for one image, or of the tokens behind each of one caption's."""
    if model.config.decoder is None:
        embedding = model.apply(variables, pixels[None], method="encode_image")
        return model.apply(variables, embedding, method="word_logits")[0]
    _, seen = model.apply(variables, pixels[None], method="view")
    _, features = model.apply(variables, tokens[None], seen, method="read")
    return features[0] @ variables["params"]["decoder"]["projection"]


def prompt_score(model, pixels, prompt):
    """One prompt's score for one image, each alone and summed up token by token."""
    end = model.config.text.vocab_size - 1
    tokens = model.tokenize(prompt)[0]
    logs = log_softmax(predict(model.module, model.variables, pixels, tokens))
    row = tokens.tolist()[: tokens.tolist().index(end) + 1]
    if model.config.makes == "words":
        return np.mean([logs[token] for token in set(row[1:-1])])
    return np.mean([logs[place, token] for place, token in enumerate(row[1:])])


@pytest.fixture(scope="module")
def expected(model):
    """float64 [images, classes]."""
    prompts = [[template.replace("{c}", name) for template in TEMPLATES] for name in NAMES]
    images = [model.resize(load_image(picture)) for picture in pictures()]
    return np.array(
        [[np.mean([prompt_score(model, i, p) for p in own]) for own in prompts] for i in images]
    )


def test_scores(model, expected):
    done = []
    scores = score_images(model, labelled(pictures()), done.append)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5)
    assert np.abs(np.diff(expected, axis=1)).min() > 1e-3  # classes are told apart
    assert sum(done) == len(NAMES) * len(TEMPLATES) + len(pictures())
    accuracy = np.mean(expected.argmax(axis=1) == np.arange(5) % 3)
    assert metrics_of(scores)["acc1"] == pytest.approx(accuracy)


def test_in_chunks_on_all_devices(model, expected, monkeypatch):
    monkeypatch.setattr(likelihood, "PAIRS", 4)  # 8 images a batch: chunks of 4 prompts of 6
    scores = score_images(on_all_devices(model), labelled(pictures()))
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5)


def test_unreadable_images_do_not_count(model, expected):
    images = [b"not an image", *pictures()[1:]]
    scores = score_images(model, labelled(images))
    np.testing.assert_array_equal(scores.images, [1, 2, 3, 4])
    np.testing.assert_allclose(scores.values, expected[1:], rtol=1e-5)


def test_wordings(model):
    data = labelled(pictures())
    comparison = compare(model, data, wordings_of(data))
    for number, metrics in enumerate(comparison.metrics):
        templates = [TEMPLATES[number]] if number < len(TEMPLATES) else TEMPLATES
        alone = dataclasses.replace(data, templates=templates)
        assert metrics == metrics_of(score_images(model, alone))


def test_texts_have_no_embeddings(model):
    with pytest.raises(InputError, match=f"this model makes {model.config.makes} of images"):
        model.encode_text(model.tokenize("a cat"))
    with pytest.raises(InputError, match="no embeddings of texts"):
        build_classifier(model, NAMES, TEMPLATES)
    with pytest.raises(InputError, match="no embeddings of texts"):
        embed_pairs(model, CaptionedImages("some", [b"not read"], [["a cat"]]))


def test_a_prompt_without_words():
    model = random_model(**MAKERS["words"])
    with pytest.raises(InputError, match="prompt '' has no words"):
        score_images(model, dataclasses.replace(labelled(pictures()), templates=[""]))


def test_new_parameters_compile_nothing(model, monkeypatch):
    """As in training, whose model is another one at each evaluation."""
    data = labelled(pictures())
    score_images(model, data)
    calls = []
    inner = CLIP.view if model.config.decoder else CLIP.word_logits
    monkeypatch.setattr(CLIP, inner.__name__, lambda *given: calls.append(1) or inner(*given))
    again = Model(model.config, {**model.params}, tokenizer=model.tokenizer)
    score_images(again, data)
    again.encode_image(np.zeros((1, 16, 16, 3), np.uint8))
    assert not calls
