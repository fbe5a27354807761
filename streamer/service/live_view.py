"""What the page is told: an overview of all symbols in pages, and one symbol in full. Plain values for JSON."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

import numpy as np

from streamer import __version__
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.outcome import PERSISTENCE_MODEL, Forecast
from streamer.service.health import Health
from streamer.service.live import Live, Watched
from streamer.service.live_table import ORDERS, Table, number, skill_of, state_of

PAGE_ROWS: Final = 25
"""Rows of the overview that are sent at once: however many symbols there are, an answer stays below 10 kB."""


class LiveView:
    """Reads `live` and `health` for the page.

    busy: whether a training of a stream is queued or running. clock: as that of the table.
    """

    def __init__(
        self,
        live: Live,
        health: Health,
        busy: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._health = health
        self._busy = busy
        self.table = Table(live, clock)

    # What is asked for

    def overview(self, search: str | None, sort: str | None, page: str | None) -> dict[str, Any]:
        """The process, and a page of its symbols. KeyError of a `sort` or `page` that there is not."""
        place, order = _page_number(page), sort or "worst"
        if order not in ORDERS:
            raise KeyError(sort)
        rows = self.table.rows(order, (search or "").casefold().strip())
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        place = min(place, pages - 1)
        shown = rows[place * PAGE_ROWS : (place + 1) * PAGE_ROWS]
        return {
            "process": self.process(),
            "found": len(rows),
            "page": place,
            "pages": pages,
            "rows": [row.told() for row in shown],
        }

    def stream(self, stream: str | None, symbol: str | None) -> dict[str, Any]:
        """A symbol of a stream in full, the first if none is named. KeyError where there is no such."""
        if stream not in self._live.streams:
            raise KeyError(stream)
        watched = self._live.streams[stream]
        engine = watched.stream.engine
        chosen = symbol or next(iter(engine.symbols), "")
        if chosen not in engine.index:
            raise KeyError(symbol)
        return {
            "stream": stream,
            "symbol": chosen,
            "partition": watched.partition,
            **self._state(watched),
            **_model(engine),
            **_figures(watched, chosen),
            "training": self._busy(stream),
            "warm_up": _warm_up(engine),
            "counts": dict(watched.counts),
            "consumer_lag": self._live.lags.get(watched.partition),
            "trainings": [
                {"at": round(t.at * 1000), "outcome": t.outcome, "seconds": round(t.seconds, 1), **asdict(t.account)}
                for t in reversed(watched.trainings)
            ],
        }

    def events(
        self, search: str | None, sort: str | None, page: str | None, stream: str | None, symbol: str | None
    ) -> dict[str, Mapping[str, Any]]:
        """The events for who shows this part of it, by name; a stream that has left is told as such."""
        told: dict[str, Mapping[str, Any]] = {"overview": self.overview(search, sort, page)}
        if stream is not None:
            try:
                told["stream"] = self.stream(stream, symbol)
            except KeyError:
                told["stream"] = {"stream": stream, "symbol": symbol, "gone": True}
        return told

    def brief(self, name: str) -> dict[str, Any]:
        """What a list of streams says of each, beside its model."""
        watched = self._live.streams.get(name)
        if watched is None:
            return {}
        return {"symbols": len(watched.stream.engine.symbols), "partition": watched.partition, **self._state(watched)}

    def process(self) -> dict[str, Any]:
        """The process as a whole: version, readiness with what fails, totals by state."""
        ready = self._health.readiness()
        return {
            "version": __version__,
            "ready": ready.ok,
            "checks": dict(ready.checks),
            "failing": list(ready.failing),
            **self.table.totals(),
        }

    def _state(self, watched: Watched) -> dict[str, Any]:
        phase, feed = state_of(watched, self._live)
        last = watched.stream.last
        return {
            "phase": phase,
            "feed": feed,
            "expected": watched.stream.engine.is_expected(int(self._live.clock() * 1000)),
            "last_tick": last,
            "known_at": None if last is None else round(last + self._live.known_after * 1000),
            "arrived": None if watched.arrived is None else round(watched.arrived * 1000),
        }


def _page_number(page: str | None) -> int:
    if page is None:
        return 0
    if not (page.isascii() and page.isdigit() and len(page) <= 6):
        raise KeyError(page)
    return int(page)


def _short(values: Iterable[float]) -> list[float | None]:
    """Those of a chart: eight digits are finer than any screen, and a third of the bytes."""
    return [float(f"{value:.8g}") if isfinite(value) else None for value in values]


def _model(engine: ForecastEngine) -> dict[str, Any]:
    swaps = [swap for swap in engine.swaps if swap.model == engine.model_id]
    return {
        "model": engine.model_id,
        "trained": engine.serving.model.trained_to if engine.serving else None,
        "serves_since": swaps[-1].after if swaps and engine.model_id != PERSISTENCE_MODEL else None,
        "reverted": list(engine.reverted),
    }


def _warm_up(engine: ForecastEngine) -> dict[str, Any]:
    """How far the ring and the history are, and in how many ticks the next training is due by schedule."""
    policy = engine.policy
    return {
        "ring": len(engine.ring),
        "window": engine.ring.capacity,
        "history": min(policy.ticks, policy.first),
        "first": policy.first,
        "held": len(engine.history),
        "capacity": engine.history.capacity,
        "next_in": max(0, policy.due_at - policy.ticks) if policy.every else None,
        "wanted": policy.wanted,
    }


def _figures(watched: Watched, symbol: str) -> dict[str, Any]:
    engine = watched.stream.engine
    column, board = engine.index[symbol], engine.scoreboard
    rmse = dict(zip(FORECASTERS, board.rmse[column].tolist(), strict=True))
    is_modelled = engine.serving is not None
    shown = {name: number(value) for name, value in rmse.items() if is_modelled or name in (SERVED, PERSISTENCE)}
    times, prices = engine.ring.times, engine.ring.prices[:, column]
    made, forecasts = watched.forecasts.of(symbol)
    at, errors = watched.errors.of(symbol)
    return {
        "symbols": len(engine.symbols),
        "step": engine.settings.step,
        "price": number(engine.market.last[column]),
        "forecast": _next(watched.latest, symbol),
        "rmse": shown,
        "skill": skill_of(rmse[SERVED], rmse[PERSISTENCE]),
        "coverage": number(board.coverage[column]),
        "coverage_target": engine.settings.coverage,
        "scored": int(board.scored[column]),
        "scored_total": int(board.scored_total[column]),
        "prices": {"time": times.tolist(), "price": _short(prices.tolist())},
        "forecasts": {"time": made.tolist()} | _parts(forecasts, ("yhat", "lower", "upper")),
        "errors": {"time": at.tolist()} | _parts(errors, (SERVED, PERSISTENCE)),
    }


def _parts(values: "np.ndarray[Any, Any]", names: tuple[str, ...]) -> dict[str, list[float | None]]:
    return {name: _short(part) for name, part in zip(names, values.T.tolist(), strict=True)}


def _next(latest: Forecast | None, symbol: str) -> dict[str, Any] | None:
    if latest is None or symbol not in latest.symbols:
        return None
    cell = latest.symbols.index(symbol)
    return {
        "as_of": latest.as_of,
        "target": latest.target,
        "model": latest.model,
        "yhat": number(latest.yhat[cell]),
        "lower": number(latest.lower[cell]),
        "upper": number(latest.upper[cell]),
        "last": number(latest.last[cell]),
    }
