"""A run of benchmarks for people: a table on the terminal, and one HTML page that needs nothing else."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from streamer.backtesting import report
from tests.bench._result import Figure, Limit, Plot, Result, compared

HEADS = ("figure", "value", "unit", "ratio", "from .. to", "beside", "limit", "")
_COMPARED = ("earlier", "new / old", "")

Earlier = Mapping[tuple[str, str], Figure]
"""Figures of an earlier run by bench and name."""


def earlier_figures(results: Sequence[Result]) -> Earlier:
    """Those of a stored run."""
    return {(result.bench, figure.name): figure for result in results for figure in result.figures}


def table(results: Sequence[Result], earlier: Earlier | None = None) -> str:
    """All figures in one table; what is skipped, slopes and the machine's load below."""
    heads = HEADS if earlier is None else HEADS + _COMPARED
    rows = [row for result in results for row in _rows(result, earlier)]
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = [_line(row, widths) for row in (heads, *rows)]
    return "\n".join(
        [lines[0], "-" * len(lines[0]), *lines[1:], *(note for result in results for note in _notes(result))]
    )


def changes(results: Sequence[Result], earlier: Earlier | None) -> dict[str, Any]:
    """The comparison for programs: by bench and figure; empty where there is none."""
    if earlier is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        pairs = ((figure, earlier.get((result.bench, figure.name))) for figure in result.figures)
        moved = {now.name: compared(now, before) for now, before in pairs if before is not None}
        found[result.bench] = {name: dataclasses.asdict(each) for name, each in moved.items() if each is not None}
    return {"compared": found}


def html(results: Sequence[Result], earlier: Earlier | None = None) -> str:
    """The page: no address of another site in it, scripts and pictures are its own."""
    return report.page("Benchmarks", list(_sections(results, earlier)))


def _sections(results: Sequence[Result], earlier: Earlier | None) -> Iterator[str]:
    yield report.note(
        "Each ratio is of two things that took turns in one run; its median, and between what it lay. The machine's "
        "other work is in all values."
    )
    heads = HEADS if earlier is None else HEADS + _COMPARED
    for result in results:
        yield f"<h2>{escape(result.bench)}</h2>"
        yield report.table(
            heads, [(row[0].removeprefix(f"{result.bench}: "), *row[1:]) for row in _rows(result, earlier)]
        )
        for note in _notes(result):
            yield report.note(note.removeprefix(f"{result.bench}: "))
        for plot in result.plots:
            yield report.picture(plot.title, picture(plot))


def picture(plot: Plot) -> go.Figure:
    """The curves on logarithmic axes, each with its slope in the legend."""
    figure = go.Figure()
    for curve in plot.curves:
        figure.add_scatter(x=curve.x, y=curve.y, mode="lines+markers", name=_named(curve.name, curve.slope))
    legend = {"orientation": "h", "y": 1.12, "x": 0}
    figure.update_layout(template="plotly_white", height=380, showlegend=True, margin={"t": 10}, legend=legend)
    figure.update_xaxes(type="log", dtick="D2", title=plot.x)
    figure.update_yaxes(type="log", dtick="D2", title=plot.y)
    return figure


def _rows(result: Result, earlier: Earlier | None) -> Iterator[tuple[str, ...]]:
    for figure in result.figures:
        spread = (
            f"{_number(figure.spread[0])} .. {_number(figure.spread[1])}"
            if len(figure.ratios) > 1 and figure.spread
            else ""
        )
        verdict = {None: "", True: "ok", False: "over"}[figure.within_limit]
        if figure.limit is not None and figure.limit.least and verdict == "over":
            verdict = "below"
        own = (
            f"{result.bench}: {figure.name}",
            _number(figure.value),
            figure.unit,
            "" if figure.ratio is None else f"{_number(figure.ratio)} x",
            spread,
            figure.beside or "",
            _limit(figure.limit, figure.unit),
            verdict,
        )
        yield own if earlier is None else own + _change(figure, earlier.get((result.bench, figure.name)))


def _change(figure: Figure, before: Figure | None) -> tuple[str, str, str]:
    found = None if before is None else compared(figure, before)
    if found is None:
        return "", "", "new" if before is None else ""
    return f"{_number(found.before)} x", _number(found.change), "moved" if found.moved else ""


def _notes(result: Result) -> Iterator[str]:
    yield from (f"{result.bench}: {note}" for note in result.notes)
    for plot in result.plots:
        slopes = ", ".join(_named(curve.name, curve.slope) for curve in plot.curves)
        yield f"{result.bench}: {plot.title}: {slopes}"
    yield f"{result.bench}: load of the machine {result.load[0]:.2f} before, {result.load[1]:.2f} after"


def _named(name: str, slope: float | None) -> str:
    return name if slope is None else f"{name} (slope {slope:.2f})"


def _limit(limit: Limit | None, unit: str) -> str:
    if limit is None:
        return ""
    return f"{'>=' if limit.least else '<='} {_number(limit.bound)} {unit if limit.absolute else 'x'}"


def _number(value: float) -> str:
    """Four digits that count, without an exponent."""
    if value != value or abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.001 or value == 0.0 else f"{value:.2g}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Text to the left, numbers to the right."""
    numbers = (1, 3, 4, 6, 8, 9)
    cells = (
        f"{cell:>{width}}" if at in numbers else f"{cell:<{width}}"
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
