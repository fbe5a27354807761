"""All symbols of all streams, searched and sorted: worked out no oftener, and no more at once, than ticks can bear."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite
from typing import Any, Final

import numpy as np

from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.service.live import Live, Watched
from streamer.service.metrics import TickStatus

_SILENT_STEPS, _SILENT_LEAST = 3, 10.0  # steps, and seconds, without a tick: one that is late is no broken feed
_BEHIND = 600.0  # seconds: as the alert FeedStale has it
_FRESH = 0.5  # seconds for which the rows are good
_AT_ONCE = 0.01  # seconds of work on streams that have changed; the others keep their rows until the next time
_SEARCHES = 64  # whose rows are kept meanwhile: as many as may follow, and as many again
_LONGEST = 5.0  # seconds that searches may put off the next look
_LOOP_SHARE = 20  # all of it takes a twentieth of the event loop at most


class Phase(StrEnum):
    """What forecasts a stream: the last price, or a model."""

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
    """One symbol; prices in full precision, None where there is no figure. words: what a search looks at."""

    stream: str
    symbol: str
    price: float | None
    yhat: float | None
    skill: float | None
    coverage: float | None
    phase: Phase
    feed: Feed
    words: str

    def told(self) -> dict[str, Any]:
        """As the page is told."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "words"}


ORDERS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "worst": lambda row: inf if row.skill is None else row.skill,
    "best": lambda row: inf if row.skill is None else -row.skill,
    "coverage": lambda row: inf if row.coverage is None else row.coverage,
    "feed": lambda row: row.feed is not Feed.STALE,
    "name": lambda row: (row.symbol, row.stream),
}
"""Orders of the rows, by name; what has no figure comes last."""


class Table:
    """The rows of all streams of `live`, and what they add up to. clock: seconds, of what all of it may cost."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._known: dict[str, tuple[tuple[object, ...], list[Row]]] = {}
        self._rows: list[Row] = []
        self._sorted: dict[str, list[Row]] = {}
        self._found: dict[tuple[str, str], list[Row]] = {}
        self._totals: dict[str, int] = {}
        self._good_until = 0.0
        self._next = 0

    def rows(self, order: str, search: str) -> list[Row]:
        """Those that have `search` (casefolded) in the name of symbol or stream, in one of ORDERS."""
        self._keep_fresh()
        if not search:
            return self._in_order(order)
        if (order, search) not in self._found:
            if len(self._found) >= _SEARCHES:
                self._found.clear()
            rows = self._in_order(order)
            began = self._clock()
            self._found[order, search] = [row for row in rows if search in row.words]
            self._charge(began)
        return self._found[order, search]

    def _in_order(self, order: str) -> list[Row]:
        if order not in self._sorted:
            began = self._clock()
            self._sorted[order] = sorted(self._rows, key=ORDERS[order])
            self._charge(began)
        return self._sorted[order]

    def _charge(self, began: float) -> None:
        """Work since `began` puts off the next look; many searches must not put it off for ever."""
        now = self._clock()
        self._good_until = min(self._good_until + _LOOP_SHARE * (now - began), max(self._good_until, now + _LONGEST))

    def totals(self) -> dict[str, int]:
        """Numbers of streams and symbols, by state; dead letters, records not read yet, the start (ms)."""
        self._keep_fresh()
        return self._totals

    def _keep_fresh(self) -> None:
        now = self._clock()
        if now >= self._good_until:
            self._collect(now + _AT_ONCE)
            self._good_until = now + max(_FRESH, _LOOP_SHARE * (self._clock() - now))

    def _collect(self, until: float) -> None:
        """Take the streams in turn, each time from where the last one left off, so that none waits for ever."""
        streams = self._live.streams
        names = list(streams)
        states = {name: state_of(watched, self._live) for name, watched in streams.items()}
        known = {name: self._known[name] for name in names if name in self._known}
        start = self._next % max(1, len(names))
        for place in [*range(start, len(names)), *range(start)]:
            name = names[place]
            key = (streams[name], streams[name].changes, *states[name])
            if name not in known or known[name][0] != key:
                known[name] = key, list(_rows(streams[name], *states[name]))
                if self._clock() > until:
                    self._next = place + 1
                    break
        self._known = known
        self._rows = [row for name in names if name in known for row in known[name][1]]
        self._sorted, self._found = {}, {}
        self._totals = self._added_up(states.values())

    def _added_up(self, states: Collection[tuple[Phase, Feed]]) -> dict[str, int]:
        live, phases, feeds = self._live, [phase for phase, _ in states], [feed for _, feed in states]
        letters = sum(watched.counts[TickStatus.DEAD_LETTER] for watched in live.streams.values())
        return {
            "streams": len(live.streams),
            "symbols": sum(len(watched.stream.engine.symbols) for watched in live.streams.values()),
            "scored": sum(row.skill is not None for row in self._rows),
            "skilled": sum(row.skill is not None and row.skill > 0 for row in self._rows),
            **{str(each): phases.count(each) for each in Phase},
            **{str(each): feeds.count(each) for each in Feed},
            "dead_letters": live.strays + letters,
            "consumer_lag": sum(live.lags.values()),
            "started": round(live.started * 1000),
        }


def state_of(watched: Watched, live: Live) -> tuple[Phase, Feed]:
    """Silence counts since a tick arrived, if one has since the start: a replay of old prices is no broken feed."""
    now, engine, last = live.clock(), watched.stream.engine, watched.stream.last
    phase = Phase.WARMING if engine.serving is None else Phase.SERVING
    age = 0.0 if last is None else now - last / 1000 - live.known_after
    silent = age if watched.arrived is None else now - watched.arrived
    patience = max(_SILENT_LEAST, _SILENT_STEPS * engine.settings.step / 1000)
    if silent > patience:
        return phase, Feed.STALE if engine.is_expected(int(now * 1000)) else Feed.CLOSED
    return phase, Feed.BEHIND if age > max(_BEHIND, patience) else Feed.LIVE


def number(value: float | np.floating[Any]) -> float | None:
    """`value`, None where it is none that JSON has."""
    return float(value) if isfinite(value) else None


def skill_of(served: float, persistence: float) -> float | None:
    """1 - error / error of the last price; None where nothing was scored, or the last price was always right."""
    return number(1 - served / persistence) if persistence > 0 else None


def _rows(watched: Watched, phase: Phase, feed: Feed) -> Iterable[Row]:
    engine, name = watched.stream.engine, watched.stream.name
    rmse, coverage = engine.scoreboard.rmse.tolist(), engine.scoreboard.coverage.tolist()
    served, persistence = FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)
    latest = watched.latest
    yhat = {} if latest is None else dict(zip(latest.symbols, latest.yhat.tolist(), strict=True))
    last = engine.market.last.tolist()
    for column, symbol in enumerate(engine.symbols):
        yield Row(
            name,
            symbol,
            number(last[column]),
            None if symbol not in yhat else number(yhat[symbol]),
            skill_of(rmse[column][served], rmse[column][persistence]),
            number(coverage[column]),
            phase,
            feed,
            f"{symbol}\n{name}".casefold(),
        )
