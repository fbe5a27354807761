"""How long ticks take, split by whether a training is under way, and by what serves."""

import asyncio
import json
import re
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer

from tests.bench._parts import Figures
from tests.e2e.harness import Samples, Service
from tests.support import eventually

IDLE, TRAINING = "idle", "training"
PERSISTENCE, NETWORK, BOTH = "persistence", "network", "both"
PHASES = tuple(f"{served} {activity}" for served in (PERSISTENCE, NETWORK, BOTH) for activity in (IDLE, TRAINING))

# How a training ends: one that is promoted has yet to catch up before it serves.
_ENDS = ("model serves", "model rejected", "training failed, serving goes on as it was")


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts of a histogram, each of the values up to its bound; the last bound is infinite."""

    bounds: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, scrape: Samples, name: str) -> "Buckets":
        """Those of the histogram `name` in one scrape."""
        found = re.findall(rf'^{name}_bucket{{le="(\S+)"}} (\S+)$', scrape.text, re.MULTILINE)
        bounds, cumulated = np.array(found, np.float64).T
        return cls(bounds, np.diff(cumulated, prepend=0.0))

    def __add__(self, other: "Buckets") -> "Buckets":
        return Buckets(self.bounds, self.counts + other.counts)

    def __sub__(self, other: "Buckets") -> "Buckets":
        return Buckets(self.bounds, self.counts - other.counts)

    def quantile(self, q: float) -> float:
        """As Prometheus' `histogram_quantile`: linear within the bucket, the last bound where it lies beyond that."""
        cumulated = np.cumsum(self.counts)
        rank = q * cumulated[-1]
        place = int(np.searchsorted(cumulated, rank))
        below, lower = cumulated[place] - self.counts[place], self.bounds[place - 1] if place else 0.0
        upper = self.bounds[place] if np.isfinite(self.bounds[place]) else lower
        return float(lower + (upper - lower) * (rank - below) / self.counts[place])

    def figures(self) -> Figures:
        """Number of values, quantiles and the bound of the highest (none: it lies beyond the last one), in ms."""
        n = int(self.counts.sum())
        if not n:
            return {"n": 0}
        highest = float(self.bounds[np.flatnonzero(self.counts)[-1]])
        bound = _milliseconds(at_most=highest) if np.isfinite(highest) else {}
        return {"n": n, **_milliseconds(p50=self.quantile(0.5), p99=self.quantile(0.99)), **bound}


@dataclass
class Watch:
    """What is seen of one life of the daemon.

    forecaster: what serves when it begins. forecasts: when each was seen (Unix seconds), and its record. phases: when
    (Unix seconds) each began. scrapes: at the end of each phase. memory: of its process, MB.
    """

    service: Service
    forecaster: str = PERSISTENCE
    forecasts: list[tuple[float, Any]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    scrapes: list[tuple[str, Samples]] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watch"]:
        """Subscribe and scrape beside the block."""
        async with self._subscriber() as consumer:
            watchers = [asyncio.create_task(work) for work in (self._subscribe(consumer), self._scrape())]
            try:
                yield self
            finally:
                for watcher in watchers:
                    watcher.cancel()
                ends = await asyncio.gather(*watchers, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise AssertionError(f"a watcher ended: {end!r}")

    async def over(self, ticks: int) -> None:
        """Wait for so many forecasts, for the training that may still run, and scrape once more."""
        await eventually(lambda: len(self.forecasts) >= ticks, timeout=60)
        await eventually(self._trains_no_more, timeout=600, interval=0.1)
        self.phases = self._logged_phases()
        # Else the last scrape would take in what belongs to the phases before.
        await eventually(lambda: len(self.scrapes) >= len(self.phases) - 1, timeout=60)
        self.scrapes.append((self.phases[-1][1], await self.service.metrics()))

    def _logged_phases(self) -> list[tuple[float, str]]:
        forecaster, under_way = self.forecaster, 0  # the next may begin before the model of the last one serves
        found = [(0.0, f"{forecaster} {IDLE}")]
        for event in self.service.events():
            if event["event"] == "training":
                under_way += 1
            elif event["event"] in _ENDS:
                under_way -= 1
                forecaster = NETWORK if event["event"] == _ENDS[0] else forecaster
            else:
                continue
            activity = TRAINING if under_way else IDLE
            found.append((datetime.fromisoformat(event["time"]).timestamp(), f"{forecaster} {activity}"))
        return found

    def _trains_no_more(self) -> bool:
        events = [event["event"] for event in self.service.events()]
        return events.count("training") == sum(events.count(end) for end in _ENDS)

    def _subscriber(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            self.service.topic("forecasts"),
            bootstrap_servers=self.service.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            isolation_level="read_committed",
        )

    async def _subscribe(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=500)
            seen = time.time()
            self.forecasts += [(seen, record) for batch in batches.values() for record in batch]

    async def _scrape(self) -> None:
        """A scrape at each change of phase, under the phase that has ended."""
        known = 1
        while True:
            phases = self._logged_phases()
            for (_, ended), _ in pairwise(phases[known - 1 :]):
                self.scrapes.append((ended, await self.service.metrics()))
            known = len(phases)
            await asyncio.sleep(0.02)


def visible(watches: Iterable[Watch], sent: dict[int, float]) -> Figures:
    """Time of each tick from sending (Unix seconds by offset) to sight, by phase."""
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for watch in watches:
        began, phases = zip(*watch.phases, strict=True)
        for seen, record in watch.forecasts:
            start = sent[json.loads(record.value)["source"]["offset"]]
            met = [phases[bisect_right(began, moment) - 1] for moment in (start, seen)]
            times[max(met, key=lambda phase: phase.endswith(TRAINING))].append(seen - start)
    for activity in (IDLE, TRAINING):
        times[f"{BOTH} {activity}"] = times[f"{PERSISTENCE} {activity}"] + times[f"{NETWORK} {activity}"]
    return _with_ratios({phase: _exact(np.array(values)) for phase, values in times.items()})


def histograms(watches: Iterable[Watch], metric: str) -> Figures:
    """What came to one of the daemon's histograms in each phase."""
    totals: dict[str, Buckets] = {}
    for watch in watches:
        before = None
        for phase, scrape in watch.scrapes:
            now = Buckets.of(scrape, metric)
            came = now if before is None else now - before
            for each in (phase, f"{BOTH} {phase.split()[1]}"):
                totals[each] = totals[each] + came if each in totals else came
            before = now
    return _with_ratios({phase: totals[phase].figures() if phase in totals else {"n": 0} for phase in PHASES})


def _exact(seconds: np.ndarray) -> Figures:
    if not len(seconds):
        return {"n": 0}
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"n": len(seconds), **_milliseconds(p50=p50, p99=p99, max=seconds.max())}


def _with_ratios(phases: Figures) -> Figures:
    """The phases, and how much longer the 99th percentile is during a training, by what served."""
    ratios = {}
    for served in (PERSISTENCE, NETWORK, BOTH):
        idle, training = (phases[f"{served} {activity}"] for activity in (IDLE, TRAINING))
        measured = idle["n"] and training["n"]
        ratios[served] = round(training["p99"] / idle["p99"], 2) if measured else None
    return phases | {"p99_ratio": ratios}


def _milliseconds(**seconds: float) -> dict[str, float]:
    return {name: round(1000.0 * float(value), 3) for name, value in seconds.items()}
