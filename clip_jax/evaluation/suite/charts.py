"""Charts as SVG and HTML text, drawn without scripts; colours are CSS variables of the report."""

from collections.abc import Sequence
from html import escape

from clip_jax.evaluation.suite.analysis import Analysis, Bin

SHOWN_CLASSES = 30
"""A larger confusion matrix is given as its largest entries."""


def bar_chart(
    rows: Sequence[tuple[str, Sequence[float | None], float | None]], series: Sequence[str]
) -> str:
    """Horizontal bars from 0 to 1, one a series in each row (name, values, chance).

    Chance is a dashed line across a row's bars.
    """
    left, width, bar, gap = 230, 520, 14, 16
    block = bar * len(series)
    height = len(rows) * (block + gap) + 24
    parts = [_grid(left, width, height - 20)]
    for index, (name, values, chance) in enumerate(rows):
        top = index * (block + gap) + gap / 2
        middle = top + block / 2 + 4
        parts.append(_text(left - 10, middle, _cut(name, 32), "end"))
        known = [(number, value) for number, value in enumerate(values) if value is not None]
        for number, value in known:
            label = f"{name}, {series[number]}: {value:.3f}"
            parts.append(
                f'<rect x="{left}" y="{top + number * bar + 1:.1f}" width="{width * value:.1f}" '
                f'height="{bar - 2}" rx="2" class="series{number % 6}">'
                f"<title>{escape(label)}</title></rect>"
            )
        if chance is not None:
            x = left + width * chance
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{top + block:.1f}" '
                f'class="chance"><title>chance: {chance:.3f}</title></line>'
            )
        for number, value in known:
            baseline = top + (number + 1) * bar - 3
            parts.append(_text(left + width * value + 5, baseline, f"{value:.3f}", "start"))
    return _svg(left + width + 50, height, "bar chart of all data sets", parts)


def reliability_diagram(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence: points on the diagonal are calibrated; area: number of images."""
    left, size = 34, 210
    most = max(b.images for b in bins)
    parts = [
        f'<rect x="{left}" y="8" width="{size}" height="{size}" class="frame"/>',
        f'<line x1="{left}" y1="{8 + size}" x2="{left + size}" y2="8" class="diagonal"/>',
    ]
    points = [(left + b.confidence * size, 8 + (1 - b.accuracy) * size) for b in bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{path}" class="curve"/>')
    for (x, y), b in zip(points, bins, strict=True):
        radius = 2 + 7 * (b.images / most) ** 0.5
        label = f"{b.images} images: confidence {b.confidence:.2f}, accuracy {b.accuracy:.2f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="point">'
            f"<title>{label}</title></circle>"
        )
    for tick in (0, 0.5, 1):
        parts.append(_text(left + tick * size, size + 24, f"{tick:g}", "middle"))
        parts.append(_text(left - 6, 12 + (1 - tick) * size, f"{tick:g}", "end"))
    parts.append(_text(left + size / 2, size + 40, "confidence", "middle"))
    return _svg(left + size + 14, size + 46, "reliability diagram", parts)


def confusion_table(analysis: Analysis) -> str:
    """The matrix as a table, or its largest wrong entries if there are too many classes."""
    if len(analysis.classnames) > SHOWN_CLASSES:
        return _confused_pairs(analysis)
    counts = {(label, predicted): n for label, predicted, n in analysis.confusion}
    classes = range(len(analysis.classnames))
    names = [escape(_cut(name, 26)) for name in analysis.classnames]
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    rows = []
    for label in classes:
        total = sum(counts.get((label, predicted), 0) for predicted in classes)
        cells = []
        for predicted in classes:
            count = counts.get((label, predicted), 0)
            share = round(100 * count / total) if total else 0
            kind = "right" if label == predicted else "wrong"
            told = analysis.classnames[predicted]
            about = f"{analysis.classnames[label]} told as {told}: {count}"
            cells.append(
                f'<td class="{kind}" style="--share:{share}%" title="{escape(about)}">'
                f"{count or ''}</td>"
            )
        rows.append(f'<tr><th scope="row">{names[label]}</th>{"".join(cells)}</tr>')
    return f'<table class="confusion"><tr><td></td>{head}</tr>{"".join(rows)}</table>'


def _confused_pairs(analysis: Analysis) -> str:
    wrong = [entry for entry in analysis.confusion if entry[0] != entry[1]]
    rows = "".join(
        f"<tr><td>{escape(analysis.classnames[label])}</td>"
        f"<td>{escape(analysis.classnames[predicted])}</td><td class='number'>{count}</td></tr>"
        for label, predicted, count in sorted(wrong, key=lambda entry: -entry[2])[:20]
    )
    return (
        "<table><tr><th>label</th><th>told as</th><th class='number'>images</th></tr>"
        f"{rows}</table>"
    )


def _grid(left: float, width: float, height: float) -> str:
    lines = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + width * tick
        lines.append(f'<line x1="{x}" x2="{x}" y1="0" y2="{height}" class="grid"/>')
        lines.append(_text(x, height + 16, f"{tick:g}", "middle"))
    return "".join(lines)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
