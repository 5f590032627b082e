"""The joint loss against open_clip's, on the same models, images and captions."""

import jax
import numpy as np
import pytest
from coca import NAMES, compute, golden

from clip_jax.losses.coca import coca
from clip_jax.losses.outputs import Captions, Outputs
from clip_jax.parallel.mesh import MeshConfig, make_mesh


def outputs_of(name, groups):
    """groups: (captions, their length) one after the other."""
    _, _, theirs = golden(name)
    image, seen = compute(name, "view", theirs["images"], normalize=True)
    captions, texts, first = [], [], 0
    for count, length in groups:
        rows = slice(first, first + count)
        tokens = theirs["tokens"][rows, :length]
        text, features = compute(name, "read", tokens, seen[rows], normalize=True)
        captions.append(Captions(features, tokens))
        texts.append(text)
        first += count
    assert first == len(image)
    no_tokens = np.zeros((first, 0), np.int32)
    return Outputs(image, jax.numpy.concatenate(texts), no_tokens, tuple(captions))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("groups", [[(5, 12)], [(2, 6), (3, 12)]])
@pytest.mark.parametrize("mesh", [False, True])
def test_the_loss_and_its_terms_are_open_clip_s(name, groups, mesh):
    """Captions may be cut by length: the mean is over all tokens of the batch, not over groups'."""
    _, variables, theirs = golden(name)
    devices = make_mesh(MeshConfig(), jax.devices()[:1]) if mesh else None
    with jax.default_matmul_precision("highest"):
        loss, terms = coca(outputs_of(name, groups), variables["params"], devices)
    assert loss == pytest.approx(theirs["loss"], rel=1e-5)
    assert terms.keys() == {"contrastive_loss", "caption_loss"}
    for term, value in terms.items():
        assert value == pytest.approx(theirs[term], rel=1e-5)


def test_the_captions_weight():
    _, variables, theirs = golden("square")
    loss, _ = coca(outputs_of("square", [(5, 12)]), variables["params"], None, caption_weight=0.5)
    expected = theirs["contrastive_loss"] + 0.5 * theirs["caption_loss"]
    assert loss == pytest.approx(expected, rel=1e-5)
