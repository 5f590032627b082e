"""Evaluations of one or more models as one HTML page that needs nothing else: no network, no files.

Rows are data sets, columns models; each set has a section with confusions, calibration and the most
confident mistakes as pictures.
"""

from collections.abc import Mapping, Sequence
from html import escape

from clip_jax.evaluation.page import html_page
from clip_jax.evaluation.suite.analysis import Analysis, Evaluation, Mistake
from clip_jax.evaluation.suite.charts import bar_chart, confusion_table, reliability_diagram
from clip_jax.evaluation.suite.datacomp import averages, main_metric


def render_report(models: Mapping[str, Sequence[Evaluation]]) -> str:
    """The page, from each model's evaluations."""
    sets: dict[str, dict[str, Evaluation]] = {}
    for model, evaluations in models.items():
        for evaluation in evaluations:
            sets.setdefault(evaluation.result.dataset, {})[model] = evaluation
    names = list(models)
    body = [
        "<h1>Zero-shot evaluation</h1>",
        f'<p class="soft">{_count(len(names), "model")} on {_count(len(sets), "data set")}</p>',
        _overview(sets, names),
        f"<h2>At a glance</h2>{_legend(names)}{_bars(sets, names)}",
        *(_data_set(name, own) for name, own in sets.items()),
    ]
    return html_page("Zero-shot evaluation", "".join(body))


def _overview(sets: Mapping[str, Mapping[str, Evaluation]], names: Sequence[str]) -> str:
    """The table of sets and models, below it DataComp's averages of the sets that all have."""
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    rows = []
    for dataset, own in sets.items():
        first = next(iter(own.values()))
        chance = first.result.notes.get("chance")
        values = _values(own, names)
        rows.append(
            f'<tr><th scope="row"><a href="#{escape(dataset)}">{escape(dataset)}</a></th>'
            f"<td>{escape(main_metric(first.result)[0])}</td>"
            f'<td class="number">{first.images}</td><td class="number">{_shown(chance)}</td>'
            f"{_cells(values)}</tr>"
        )
    shared = [own for own in sets.values() if len(own) == len(names)]
    by_model = [averages([own[name].result for own in shared]) for name in names]
    for group, about in by_model[0].items() if len(shared) > 1 else ():
        rows.append(
            f'<tr class="average"><th scope="row">{escape(group)}</th>'
            f"<td>mean of {about['sets']:g} of {about['of']:g} sets</td><td></td><td></td>"
            f"{_cells([own[group]['mean'] for own in by_model])}</tr>"
        )
    return (
        '<div class="wide"><table><tr><th>data set</th><th>metric</th><th class="number">images'
        f'</th><th class="number">chance</th>{head}</tr>{"".join(rows)}</table></div>'
    )


def _bars(sets: Mapping[str, Mapping[str, Evaluation]], names: Sequence[str]) -> str:
    rows = []
    for dataset, own in sets.items():
        chance = next(iter(own.values())).result.notes.get("chance")
        rows.append((dataset, _values(own, names), chance))
    return bar_chart(rows, names)


def _data_set(dataset: str, own: Mapping[str, Evaluation]) -> str:
    parts = [_model_section(name, evaluation) for name, evaluation in own.items()]
    return f'<h2 id="{escape(dataset)}">{escape(dataset)}</h2>{"".join(parts)}'


def _model_section(name: str, evaluation: Evaluation) -> str:
    """One model on one set."""
    result = evaluation.result
    shown = {**result.metrics, **{k: v for k, v in result.notes.items() if k != "chance"}}
    metrics = " · ".join(f"{escape(key)} <b>{_shown(value)}</b>" for key, value in shown.items())
    body = "" if evaluation.analysis is None else _analysis(evaluation.analysis)
    return f'<section class="model"><h3>{escape(name)}</h3><p>{metrics}</p>{body}</section>'


def _analysis(analysis: Analysis) -> str:
    figures = "".join(map(_figure, analysis.mistakes))
    mistakes = f'<h3>Most confident mistakes</h3><div class="pictures">{figures}</div>'
    return (
        '<div class="columns"><div class="wide"><h4>Labels (rows) and what they were told as</h4>'
        f"{confusion_table(analysis)}</div>"
        f"<div><h4>Calibration: expected error {analysis.calibration_error:.3f}</h4>"
        f"{reliability_diagram(analysis.bins)}</div></div>"
        f"{mistakes if figures else ''}"
    )


def _figure(mistake: Mistake) -> str:
    return (
        f'<figure><img alt="image {mistake.number}" '
        f'src="data:image/jpeg;base64,{escape(mistake.picture)}">'
        f"<figcaption><b>{escape(mistake.predicted)}</b> {mistake.confidence:.0%}<br>"
        f'<span class="soft">is {escape(mistake.label)} (image {mistake.number})</span>'
        "</figcaption></figure>"
    )


def _values(own: Mapping[str, Evaluation], names: Sequence[str]) -> list[float | None]:
    """The main metric of each model; None where it is not there."""
    return [main_metric(own[name].result)[1] if name in own else None for name in names]


def _cells(values: Sequence[float | None]) -> str:
    """Table cells, the best of several in bold."""
    best = max((value for value in values if value is not None), default=None)
    mark = [len(values) > 1 and value is not None and value == best for value in values]
    return "".join(
        f'<td class="number{" best" * marked}">{_shown(value)}</td>'
        for value, marked in zip(values, mark, strict=True)
    )


def _legend(names: Sequence[str]) -> str:
    marks = "".join(
        f'<span><i class="series{number % 6}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend">{marks}<span class="soft">dashed: chance</span></p>'


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
