"""When bad samples stop a run, and what the message tells."""

import pickle

import pytest

from clip_jax.data.bad import MIN_BAD, REASONS, BadSample, check_share, describe_reasons
from clip_jax.errors import InputError


def test_too_large_a_share_stops_with_reasons_and_examples():
    counts = {"no_caption": 30, "broken_image": 90}
    examples = [BadSample("broken_image", "a.tar:7", "image file is truncated")]
    with pytest.raises(InputError) as caught:
        check_share(counts, used=880, max_share=0.1, examples=examples)
    assert str(caught.value) == (
        "120 of 1000 samples are bad (90 broken_image, 30 no_caption), more than --data.max-bad "
        "0.1 allows; for example a.tar:7: broken_image (image file is truncated)"
    )


@pytest.mark.parametrize(
    ("bad", "used", "max_share"),
    [(120, 880, 0.12), (MIN_BAD - 1, 1, 0.1), (10**6, 0, 1.0), (0, 0, 0.0)],
)
def test_a_share_within_the_limit_or_of_few_samples_stops_nothing(bad, used, max_share):
    check_share({"no_image": bad}, used, max_share, [])


def test_a_limit_of_nothing_stops_at_the_smallest_number_that_counts():
    with pytest.raises(InputError, match=f"{MIN_BAD} of 1000100 samples are bad"):
        check_share({"no_image": MIN_BAD}, 10**6, 0.0, [])


def test_reasons_are_told_by_their_number():
    assert describe_reasons(dict.fromkeys(REASONS, 0)) == ""
    assert describe_reasons({"no_image": 1, "unreadable": 2}) == "2 unreadable, 1 no_image"


def test_bad_samples_travel_between_processes():
    sample = pickle.loads(pickle.dumps(BadSample("no_image", "a.tar:1")))
    assert (sample.reason, str(sample)) == ("no_image", "a.tar:1: no_image")
