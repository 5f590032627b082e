"""The page: that it shows everything, that its tags are closed, and that it loads nothing."""

from html.parser import HTMLParser

import numpy as np
import pytest
from shards import encode, solid

from clip_jax.data.samples import LabelledImages
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.suite.analysis import Evaluation, analyse
from clip_jax.evaluation.suite.report import render_report
from clip_jax.evaluation.zeroshot import Scores

NAMES = ["cat", "dog & <b>cat</b>", '"tree"', "<script>", "house"]


class Page(HTMLParser):
    """What a page shows and loads."""

    def __init__(self, content):
        super().__init__()
        self.text, self.tags, self.sources, self._open = [], [], [], []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "srcset", "xlink:href")]
        self.sources += [v for k, v in attributes if k == "href" and not v.startswith("#")]
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def classified(model, accuracy):
    """Five images, of which two are told wrong."""
    images, labels = [encode(solid(number)) for number in range(5)], np.arange(5)
    data = LabelledImages("pets <3", images, labels, NAMES, ["{c}"])
    values = np.roll(np.eye(5, dtype=np.float32), 1, axis=0) * (labels < 2)[:, None]
    values += np.eye(5, dtype=np.float32) * (labels >= 2)[:, None]
    metrics = {"acc1": accuracy, "mean_per_class_recall": 0.61}
    notes = {"chance": 0.2, "unreadable images, left out": 3}
    result = Result("pets <3", "zeroshot_classification", metrics, model, notes=notes)
    return Evaluation(result, 5, analyse(data, Scores(values, labels, labels), 10.0))


def retrieved(model):
    metrics = {"image_retrieval_recall@1": 0.25, "text_retrieval_recall@1": 0.35}
    return Evaluation(Result("pairs", "zeroshot_retrieval", metrics, model), 7, None)


@pytest.fixture(scope="module")
def content():
    """Two models on two sets; the second has not been evaluated by one of them."""
    first = [classified("runs/a", 0.6123), retrieved("runs/a")]
    return render_report({"runs/a": first, "runs/b": [classified("runs/b", 0.7456)]})


def test_everything_is_shown(content):
    page = Page(content)
    for text in ("runs/a", "runs/b", "pets <3", "pairs", *NAMES, "0.6123", "0.7456", "0.3000"):
        assert text in page.text
    assert any("unreadable images, left out" in text for text in page.text)
    assert page.tags.count("svg") == 1 + 2  # the bars, and a diagram for each model
    assert page.tags.count("figure") == 2 + 2
    assert page.text.count("0.7456") == page.text.count("0.6123") == 2  # table and section


def test_the_best_model_is_marked(content):
    assert '<td class="number best">0.7456</td>' in content
    assert '<td class="number">0.6123</td>' in content
    assert '<td class="number best">0.3000</td><td class="number">-</td>' in content


def test_averages_are_of_what_all_models_have():
    def both(model, recall):
        metrics = {"image_retrieval_recall@1": recall, "text_retrieval_recall@1": recall}
        pairs = Evaluation(Result("pairs", "zeroshot_retrieval", metrics, model), 7, None)
        return [classified(model, 0.5), pairs]

    page = Page(render_report({"a": both("a", 0.2), "b": both("b", 0.3)}))
    assert "mean of 2 of 2 sets" in page.text
    assert "0.3500" in page.text
    assert "0.4000" in page.text


def test_nothing_is_loaded(content):
    page = Page(content)
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "url(" not in content
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_one_model_on_one_set():
    page = Page(render_report({"runs/a": [retrieved("runs/a")]}))
    assert "1 model on 1 data set" in page.text
    assert "figure" not in page.tags
