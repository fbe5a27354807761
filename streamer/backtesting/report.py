"""The report of a backtest: one HTML file that needs nothing else, neither network nor other files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from streamer import __version__
from streamer.backtesting import figures
from streamer.backtesting.result import Result, formatted
from streamer.backtesting.scores import Column
from streamer.core.forecaster import FORECASTERS, SERVED

_PICTURED = 20  # targets with pictures: a browser gets slow with more; the table has all

# The buttons are listed since plotly's own choice may have some that lead to its web site.
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d", "toImage"]],
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1rem 0 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #e5e7eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.three { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 0.5rem; }
.three > div { min-width: 0; } .note { color: #4b5563; max-width: 75ch; }
"""


def html(result: Result) -> str:
    """The page."""
    return page("Backtest", _sections(result))


def page(title: str, sections: Iterable[str]) -> str:
    """A page of HTML `sections` below its title, whole in itself; the benchmarks' report is one too."""
    body = "\n".join((f"<h1>{escape(title)}</h1>", *sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _sections(result: Result) -> Iterator[str]:
    summary = result.summary
    yield note(_overview(summary))
    for notice in summary["notices"]:
        yield note(notice)
    yield "<h2>Errors</h2>"
    yield note(
        "RMSE in price units, all on the same cells. Persistence says “same as the last price”. "
        "Skill is 1 - RMSE served / RMSE of persistence: above 0 is better than the last price."
    )
    yield _errors(result)
    yield "<h2>Intervals</h2>"
    yield note(
        f"Made to hold {result.coverage:.0%} of prices. The Winkler score is the width plus a fine for prices outside,"
        " and lower is better. Beside it, the same calibration around the last price."
    )
    yield _intervals(result)
    yield "<h2>Copycat check</h2>"
    yield note(
        "Correlation of the predicted change with the change before it, and with the change that was to be predicted."
        " A forecast that only repeats has the first and not the second."
    )
    yield _copycat(result)
    yield "<h2>Models</h2>"
    yield _models(result)
    yield from _targets(result)
    yield note(f"streamer {escape(__version__)}")


def _overview(summary: Mapping[str, Any]) -> str:
    ending = " Interrupted: the rows after that are missing." if summary["interrupted"] else ""
    ratio, coverage, winkler = (formatted(name, summary[name]) for name in ("ratio", "coverage", "winkler_ratio"))
    return (
        f"{summary['forecast_rows']} rows forecast, {summary['first']} to {summary['last']}, one step of "
        f"{summary['step_seconds']:g} s ahead, after {summary['history_rows']} rows of history. RMSE over that of the "
        f"last price, geometric mean over symbols: {ratio}; prices inside their interval: {coverage}; interval score "
        f"over the last price's: {winkler}.{ending}"
    )


def _errors(result: Result) -> str:
    errors = {f"{name}_rmse": name for name in FORECASTERS if name != SERVED}
    heads = {"n": "scored", "forecast_share": "forecast, share", "rmse": SERVED, **errors, "skill": "skill"}
    return _by_symbol(result, heads)


def _intervals(result: Result) -> str:
    names = [prefix + name for prefix in ("", "persistence_") for name in ("coverage", "width", "winkler")]
    return _by_symbol(result, {name: name.replace("persistence_", "persistence's ") for name in names})


def _copycat(result: Result) -> str:
    heads = {"correlation_last": "with the change before", "correlation_next": "with the change to come"}
    return _by_symbol(result, heads)


def _by_symbol(result: Result, heads: Mapping[str, str]) -> str:
    """A row per target with the summary's figures; heads: by the figure's name."""
    figures = result.summary["symbols"]
    rows = ((symbol, *(formatted(name, each[name]) for name in heads)) for symbol, each in figures.items())
    return table(["symbol", *heads.values()], rows)


def _models(result: Result) -> str:
    """Trainings with their gate figures, and the span of forecasts that each model made."""
    spans = ["first forecast for", "last forecast for", "rows"]
    trainings, swaps = result.summary["models"], result.summary["swaps"]
    if not trainings:
        rows = ((swap["model"], swap["after"], *_span(result, swap["model"])) for swap in swaps)
        return table(["model", "swapped in after", *spans], rows)
    names = ("model", "after", "ticks", "outcome", "ratio", "persistence_ratio")
    heads = ["model", "trained up to", "ticks", "outcome", "RMSE / rival's", "RMSE / persistence's", *spans, "gate"]
    return table(
        heads,
        (
            (*(formatted(name, each[name]) for name in names), *_span(result, each["model"]), each["reason"])
            for each in trainings
        ),
    )


def _span(result: Result, model: str | None) -> tuple[str, str, str]:
    """First and last target time that a model forecast, and how many rows."""
    times = result.times[(result.models == model).to_numpy()]
    if model is None or not len(times):
        return "-", "-", "0"
    return f"{times[0]:%Y-%m-%d %H:%M:%S}", f"{times[-1]:%Y-%m-%d %H:%M:%S}", str(len(times))


def _targets(result: Result) -> Iterator[str]:
    """Each target's pictures."""
    scored = [column for column in result.columns if column.scored.any()]
    if len(scored) > _PICTURED:
        yield note(f"Pictures of the first {_PICTURED} of {len(scored)} targets follow; predicted.csv has all.")
    for column in scored[:_PICTURED]:
        yield f"<h2>{escape(column.symbol)}</h2>"
        yield picture(
            "Predicted over true, the newest rows (drag to zoom, double click for all)", figures.prices(result, column)
        )
        yield '<div class="three">'
        yield from _small(result, column)
        yield "</div>"


def _small(result: Result, column: Column) -> Iterator[str]:
    yield picture("Error against the last price", figures.error(result, column))
    yield picture("Coverage", figures.coverage(result, column))
    weights = figures.experts(result, column)
    if weights is not None:
        yield picture("Weights of the experts", weights)


def picture(title: str, figure: go.Figure) -> str:
    """A figure below its title."""
    div = plotly.io.to_html(figure, config=_CONFIG, include_plotlyjs=False, full_html=False)
    return f"<div><h3>{escape(title)}</h3>{div}</div>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text, a row of cells each."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def note(text: str) -> str:
    """A paragraph of text."""
    return f'<p class="note">{escape(text)}</p>'
