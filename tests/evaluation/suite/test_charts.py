"""Charts as text: what lies where, and that every number and name arrives."""

import re

import pytest

from clip_jax.evaluation.suite.analysis import Analysis, Bin
from clip_jax.evaluation.suite.charts import (
    SHOWN_CLASSES,
    bar_chart,
    confusion_table,
    reliability_diagram,
)


def numbers(text, tag, attribute):
    return [float(value) for value in re.findall(rf'<{tag} [^>]*?{attribute}="([\d.]+)"', text)]


def test_bars_are_as_long_as_their_values():
    rows = [("pets", [0.5, 0.25], 0.1), ("pairs & more", [1.0, None], None)]
    chart = bar_chart(rows, ["one", "two"])
    widths = numbers(chart, "rect", "width")
    assert [width / widths[2] for width in widths] == [0.5, 0.25, 1.0]
    assert len(re.findall('class="chance"', chart)) == 1
    assert "pets, two: 0.250" in chart
    assert "pairs &amp; more" in chart


def test_calibrated_bins_lie_on_the_diagonal():
    diagram = reliability_diagram([Bin(10, 0.2, 0.2), Bin(40, 0.8, 0.8), Bin(5, 0.9, 0.1)])
    left = numbers(diagram, "rect", "x")[0]
    bottom = numbers(diagram, "line", "y1")[0]
    across = [x - left for x in numbers(diagram, "circle", "cx")]
    up = [bottom - y for y in numbers(diagram, "circle", "cy")]
    assert across[:2] == pytest.approx(up[:2])
    assert up[2] == pytest.approx(across[2] / 9)
    radius = numbers(diagram, "circle", "r")
    assert radius[1] > radius[0] > radius[2]
    assert "40 images: confidence 0.80, accuracy 0.80" in diagram


def test_a_confusion_table_has_a_cell_for_each_pair():
    analysis = Analysis(["cat", "<dog>"], [[0, 0, 3], [0, 1, 1], [1, 1, 7]], [], [])
    table = confusion_table(analysis)
    cells = re.findall(r'<td class="(\w+)" style="--share:(\d+)%"[^>]*>(\d*)</td>', table)
    assert cells == [
        ("right", "75", "3"),
        ("wrong", "25", "1"),
        ("wrong", "0", ""),
        ("right", "100", "7"),
    ]
    assert "&lt;dog&gt;" in table
    assert "<dog>" not in table


def test_of_many_classes_the_largest_confusions_are_listed():
    names = [f"class {number}" for number in range(SHOWN_CLASSES + 1)]
    table = confusion_table(Analysis(names, [[0, 0, 9], [1, 2, 3], [4, 5, 6]], [], []))
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>(\d+)</td></tr>", table)
    assert rows == [("class 4", "class 5", "6"), ("class 1", "class 2", "3")]
