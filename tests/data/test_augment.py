"""What is changed at random in captions; crops and flips are tested where batches are made."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.data.augment import Augment

TAGS = Augment(prompt_share=1.0)


@settings(deadline=None, max_examples=50)
@given(tags=st.lists(st.sampled_from("abcde"), min_size=1, unique=True), seed=st.integers(0, 9999))
def test_sampled_tags_are_some_of_the_caption_s(tags, seed):
    chosen = TAGS.caption([", ".join(tags)], np.random.default_rng(seed))
    parts = [part.strip() for part in chosen.split(",")]
    assert set(parts) <= set(tags)
    assert len(set(parts)) == len(parts) >= 1


def test_every_choice_of_tags_occurs():
    rng = np.random.default_rng(0)
    seen = {TAGS.caption(["x,y,z"], rng) for _ in range(500)}
    orders = [",".join(p) for n in (1, 2, 3) for p in itertools.permutations("xyz", n)]
    assert seen == set(orders)


def test_captions_are_put_into_the_templates():
    rng = np.random.default_rng(0)
    augment = Augment(prompt_share=1.0, templates=("{c}", "a {c}, {c}."))
    seen = [augment.caption(["{x}"], rng) for _ in range(100)]
    assert set(seen) == {"{x}", "a {x}, {x}."}
    assert 25 < seen.count("{x}") < 75


def test_the_share_of_captions_made_into_prompts():
    rng = np.random.default_rng(0)
    augment = Augment(prompt_share=0.3, templates=("<{c}>",))
    seen = [augment.caption(["a, b"], rng) for _ in range(1000)]
    assert 0.25 < sum(text.startswith("<") for text in seen) / 1000 < 0.35
    assert set(seen) == {"a, b", "<a>", "<b>", "<a, b>", "<b,a>"}


def test_by_default_captions_stay_as_they_are():
    assert Augment().caption(["b, a"], np.random.default_rng(0)) == "b, a"


def test_one_of_several_captions_is_drawn_evenly():
    rng, captions = np.random.default_rng(0), ("one", "two", "three")
    seen = [Augment().caption(captions, rng) for _ in range(3000)]
    assert all(900 < seen.count(caption) < 1100 for caption in captions)
    again = np.random.default_rng(0)
    assert [Augment().caption(captions, again) for _ in range(3000)] == seen


def test_the_first_caption_on_request():
    rng, first = np.random.default_rng(0), Augment(which_caption="first")
    assert {first.caption(("one", "two", "three"), rng) for _ in range(20)} == {"one"}
