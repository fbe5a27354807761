"""The pictures of a backtest, as plotly figures."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from streamer.backtesting.result import Result
from streamer.backtesting.scores import Column
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats

_PICTURED = 2_000  # rows in the picture of prices, and
_ZOOMED = 150  # of them at first: so few that the dashes are seen
_POINTS = 600  # of any other line: more than a screen shows
_ROLLING = 300  # cells of the coverage's window: its standard error is then 0.017
_MARKED = 50  # swaps: more lines would hide the curve
_EXPERTS = 8  # with a line of their own; the rest is one more

_COLOURS = {SERVED: "#c2410c", "lstm": "#1d4ed8", "linear": "#15803d", PERSISTENCE: "#6b7280"}
_TRUE, _BAND = "#111827", "rgba(194, 65, 12, 0.15)"


def prices(result: Result, column: Column) -> go.Figure:
    """Predicted, dashed, over true, with the interval: the newest rows, zoomed in to the last of them."""
    times = result.times[-_PICTURED:]
    shown = slice(-_PICTURED, None)
    figure = _figure("price", 360)
    known = np.isfinite(column.lower[shown])  # a filled area must have no holes
    for bound, fill in ((column.upper, {}), (column.lower, {"fill": "tonexty", "fillcolor": _BAND})):
        figure.add_scatter(
            x=times[known], y=bound[shown][known], mode="lines", line_width=0, hoverinfo="skip",
            name="interval", showlegend=bool(fill), **fill,
        )  # fmt: skip
    # With markers, since a price between two blanks has no line.
    for name, values, line in (
        ("true", column.actual, {"color": _TRUE}),
        ("predicted", column.yhat[SERVED], {"color": _COLOURS[SERVED], "dash": "dash"}),
    ):
        figure.add_scatter(x=times, y=values[shown], mode="lines+markers", marker_size=3, line=line, name=name)
    zoomed = slice(-_ZOOMED, None)
    figure.update_xaxes(range=[times[zoomed][0], times[-1]])
    figure.update_yaxes(range=_span(column.actual[zoomed], column.lower[zoomed], column.upper[zoomed]))
    return figure


def error(result: Result, column: Column) -> go.Figure:
    """Squared error saved since the start, as a share of all of persistence's: a line that rises gains on it.

    After I. Welch, A. Goyal, "A comprehensive look at the empirical performance of equity premium prediction",
    Review of Financial Studies 21 (2008).
    """
    figure = _figure("saved, % of the last price's error", 260)
    cells = column.scored
    flat = np.where(cells, (column.yhat[PERSISTENCE] - column.actual) ** 2, 0.0)
    total = float(flat.sum()) or 1.0
    at = _thinned(len(cells))
    for name in FORECASTERS:
        if name != PERSISTENCE:
            own = np.where(cells, (column.yhat[name] - column.actual) ** 2, 0.0)
            saved = 100.0 * np.cumsum(flat - own) / total
            figure.add_scatter(x=result.times[at], y=saved[at], mode="lines", name=name, line_color=_COLOURS.get(name))
    figure.add_hline(y=0.0, line_color=_COLOURS[PERSISTENCE])
    swaps = result.swaps["after"]
    if len(swaps) <= _MARKED:
        for after in swaps[swaps >= result.times[0]]:
            figure.add_vline(x=after, line_dash="dot", line_color=_COLOURS[PERSISTENCE])
    return figure


def coverage(result: Result, column: Column) -> go.Figure:
    """Share of the last prices inside their interval."""
    figure = _figure(f"inside the interval, % of the last {_ROLLING}", 260)
    cells = np.flatnonzero(column.scored)
    actual = column.actual[cells]
    inside = (actual >= column.lower[cells]) & (actual <= column.upper[cells])
    rolling = 100.0 * pd.Series(inside, dtype=float).rolling(_ROLLING, min_periods=min(30, _ROLLING)).mean().to_numpy()
    at = _thinned(len(cells))
    figure.add_scatter(
        x=result.times[cells[at]], y=rolling[at], mode="lines", line_color=_COLOURS[SERVED], name="inside"
    )
    figure.add_hline(y=100.0 * result.coverage, line_dash="dash", line_color=_COLOURS[PERSISTENCE])
    figure.update_yaxes(range=[max(0.0, 100.0 * result.coverage - 20.0), 101.0])
    return figure


def experts(result: Result, column: Column) -> go.Figure | None:
    """Weights of the experts over time, None where none were seen."""
    own = result.shares[result.shares["target"] == column.symbol]
    if own.empty:
        return None
    weights = own.pivot_table(index="time", columns="expert", values="weight", aggfunc="last").fillna(0.0)
    figure = _figure("weight", 260)
    stacked = {"stackgroup": "one"} if float(weights.min().min()) >= 0.0 else {}
    for name, values in _largest(weights):
        figure.add_scatter(x=weights.index, y=values, mode="lines", line_width=1, name=name, showlegend=True, **stacked)
    return figure


def _largest(weights: pd.DataFrame) -> Iterator[tuple[str, Floats]]:
    """The experts with the most weight, then the rest together."""
    order = weights.abs().mean().sort_values(ascending=False, kind="stable").index
    for name in order[:_EXPERTS]:
        yield str(name), weights[name].to_numpy(np.float64)
    if len(order) > _EXPERTS:
        rest = order[_EXPERTS:]
        yield f"{len(rest)} others", weights[rest].sum(axis=1).to_numpy(np.float64)


def _figure(title: str, height: int) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 10, "t": 10, "b": 30},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        yaxis={"title": {"text": title, "font": {"size": 12}}},
        hovermode="x",
    )
    return figure


def _thinned(count: int) -> slice:
    """Every so many, so that `_POINTS` are left, the last among them."""
    every = max(1, count // _POINTS)
    return slice((count - 1) % every if count else 0, None, every)


def _span(*values: Floats) -> list[float] | None:
    """Range of an axis that shows all `values` with a margin."""
    known = np.concatenate([each[np.isfinite(each)] for each in values])
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 1.0
    return [low - margin, high + margin]
