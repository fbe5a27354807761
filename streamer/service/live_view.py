"""What the page is told: an overview of all symbols in pages, and one symbol in full. Plain values for JSON."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final

import numpy as np

from streamer import __version__
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.outcome import PERSISTENCE_MODEL, Forecast
from streamer.service.health import Health
from streamer.service.live import Live, Watched

PAGE_ROWS: Final = 25
"""Rows of the overview that are sent at once: however many symbols there are, an answer stays below 10 kB."""

_SILENT_STEPS, _SILENT_LEAST = 3, 10.0  # steps, and seconds, without a tick: one that is late is no broken feed
_BEHIND = 600.0  # seconds: as the alert FeedStale has it
_LOOP_SHARE = 20  # all pages together take a twentieth of the event loop at most
_FRESH = 0.5  # seconds for which an overview is good


class Phase(StrEnum):
    """What forecasts a stream."""

    WARMING = "warming"
    SERVING = "serving"


class Feed(StrEnum):
    """How a stream's feed is. Behind: ticks come, but old ones. Closed: silent when no tick is expected."""

    LIVE = "live"
    BEHIND = "behind"
    STALE = "stale"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Row:
    """One symbol in the overview; prices in full precision, None where there is no figure."""

    stream: str
    symbol: str
    price: float | None
    yhat: float | None
    skill: float | None
    coverage: float | None
    phase: Phase
    feed: Feed

    @property
    def rank(self) -> tuple[int, str, str]:
        """What breaks a tie: the feed that is broken first, then by name."""
        return (self.feed is not Feed.STALE, self.stream, self.symbol)


_ORDERS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "worst": lambda row: (row.skill is None, row.skill or 0.0, row.rank),
    "best": lambda row: (row.skill is None, -(row.skill or 0.0), row.rank),
    "coverage": lambda row: (row.coverage is None, row.coverage or 0.0, row.rank),
    "feed": lambda row: row.rank,
    "name": lambda row: (row.symbol, row.stream),
}


class LiveView:
    """Reads `live` and `health` for the page.

    busy: whether a training of a stream is queued or running.
    """

    def __init__(self, live: Live, health: Health, busy: Callable[[str], bool]) -> None:
        self._live = live
        self._health = health
        self._busy = busy
        self._rows: dict[str, tuple[tuple[Any, ...], list[Row]]] = {}
        self._sorted: dict[str, list[Row]] = {}
        self._good_until = 0.0

    # What is asked for

    def overview(self, search: str | None, sort: str | None, page: str | None) -> dict[str, Any]:
        """The process, and a page of its symbols. KeyError of a `sort` or `page` that there is not."""
        number, order = _page_number(page), sort or "worst"
        if order not in _ORDERS:
            raise KeyError(sort)
        rows = self._all(order)
        if wanted := (search or "").casefold().strip():
            rows = [row for row in rows if wanted in row.symbol.casefold() or wanted in row.stream.casefold()]
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        number = min(number, pages - 1)
        shown = rows[number * PAGE_ROWS : (number + 1) * PAGE_ROWS]
        return {
            "process": self.process(),
            "found": len(rows),
            "page": number,
            "pages": pages,
            "rows": [asdict(row) for row in shown],
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
        rows = self._all("name")
        states = {watched.stream.name: self._phase_and_feed(watched) for watched in self._live.streams.values()}
        return {
            "version": __version__,
            "ready": ready.ok,
            "checks": dict(ready.checks),
            "failing": list(ready.failing),
            **self._live.totals(),
            "symbols": len(rows),
            "skilled": sum(row.skill is not None and row.skill > 0 for row in rows),
            "scored": sum(row.skill is not None for row in rows),
            **{str(each): sum(phase is each for phase, _ in states.values()) for each in Phase},
            **{str(each): sum(feed is each for _, feed in states.values()) for each in Feed},
        }

    # How it is worked out

    def _all(self, order: str) -> list[Row]:
        """The rows of all symbols in an order, worked out anew no oftener than the ticks can bear."""
        now = time.monotonic()
        if now >= self._good_until:
            self._sorted = {"": self._collect()}
            self._good_until = now + max(_FRESH, _LOOP_SHARE * (time.monotonic() - now))
        if order not in self._sorted:
            self._sorted[order] = sorted(self._sorted[""], key=_ORDERS[order])
        return self._sorted[order]

    def _collect(self) -> list[Row]:
        """Only the streams that have changed are worked out."""
        found, kept = [], {}
        for name, watched in self._live.streams.items():
            phase, feed = self._phase_and_feed(watched)
            key = (id(watched), watched.changes, phase, feed)
            known = self._rows.get(name)
            kept[name] = known if known and known[0] == key else (key, list(_rows(watched, phase, feed)))
            found += kept[name][1]
        self._rows = kept
        return found

    def _phase_and_feed(self, watched: Watched) -> tuple[Phase, Feed]:
        phase = Phase.WARMING if watched.stream.engine.serving is None else Phase.SERVING
        return phase, self._feed(watched)

    def _state(self, watched: Watched) -> dict[str, Any]:
        phase, feed = self._phase_and_feed(watched)
        last = watched.stream.last
        return {
            "phase": phase,
            "feed": feed,
            "expected": watched.stream.engine.is_expected(int(self._live.clock() * 1000)),
            "last_tick": last,
            "known_at": None if last is None else round(last + self._live.known_after * 1000),
            "arrived": None if watched.arrived is None else round(watched.arrived * 1000),
        }

    def _feed(self, watched: Watched) -> Feed:
        """By when a tick arrived, where one has since the start: a replay of old prices is no broken feed."""
        now, engine = self._live.clock(), watched.stream.engine
        last = watched.stream.last
        age = 0.0 if last is None else now - last / 1000 - self._live.known_after
        silent = age if watched.arrived is None else now - watched.arrived
        patience = max(_SILENT_LEAST, _SILENT_STEPS * engine.settings.step / 1000)
        if silent > patience:
            return Feed.STALE if engine.is_expected(int(now * 1000)) else Feed.CLOSED
        return Feed.BEHIND if age > max(_BEHIND, patience) else Feed.LIVE


def _page_number(page: str | None) -> int:
    if page is None:
        return 0
    if not (page.isascii() and page.isdigit() and len(page) <= 6):
        raise KeyError(page)
    return int(page)


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if isfinite(value) else None


def _short(values: Iterable[float]) -> list[float | None]:
    """Those of a chart: eight digits are finer than any screen, and a third of the bytes."""
    return [float(f"{value:.8g}") if isfinite(value) else None for value in values]


def _skill(served: float, persistence: float) -> float | None:
    return _number(1 - served / persistence) if persistence > 0 else None


def _rows(watched: Watched, phase: Phase, feed: Feed) -> Iterable[Row]:
    engine = watched.stream.engine
    rmse, coverage = engine.scoreboard.rmse.tolist(), engine.scoreboard.coverage.tolist()
    served, persistence = FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)
    latest = watched.latest
    yhat = {} if latest is None else dict(zip(latest.symbols, latest.yhat.tolist(), strict=True))
    last = engine.market.last.tolist()
    for column, symbol in enumerate(engine.symbols):
        yield Row(
            watched.stream.name,
            symbol,
            _number(last[column]),
            yhat.get(symbol),
            _skill(rmse[column][served], rmse[column][persistence]),
            _number(coverage[column]),
            phase,
            feed,
        )


def _model(engine: ForecastEngine) -> dict[str, Any]:
    swaps = [swap for swap in engine.swaps if swap.model == engine.model_id]
    return {
        "model": engine.model_id,
        "trained": engine.serving.model.as_of if engine.serving else None,
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
    shown = {name: _number(value) for name, value in rmse.items() if is_modelled or name in (SERVED, PERSISTENCE)}
    times, prices = engine.ring.times, engine.ring.prices[:, column]
    made, forecasts = watched.forecasts.of(symbol)
    at, errors = watched.errors.of(symbol)
    return {
        "symbols": len(engine.symbols),
        "step": engine.settings.step,
        "price": _number(engine.market.last[column]),
        "forecast": _next(watched.latest, symbol),
        "rmse": shown,
        "skill": _skill(rmse[SERVED], rmse[PERSISTENCE]),
        "coverage": _number(board.coverage[column]),
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
        "yhat": float(latest.yhat[cell]),
        "lower": float(latest.lower[cell]),
        "upper": float(latest.upper[cell]),
        "last": float(latest.last[cell]),
    }
