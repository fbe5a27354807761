"""The daemon on a real Kafka: what a tick's way costs while a training runs, beside what it costs without one.

    scripts/bench serving [--ticks N] [--rate R] [--data CSV]

`streamer feed` sends the ticks to `streamer run`, which has its default settings but for `retrain.every`. Trainings
follow so closely on each other at 500 ticks/s that little is left between them: afterwards the daemon is started again
without any, on what it had learned, and is fed for ten seconds more. Three measurements of the same ticks:

- `visible`: from the record's timestamp, which `streamer feed` sets when it sends, to the return of the fetch with
  which a `read_committed` subscriber has the forecast. One value for each tick, so that quantiles and maximum are
  exact; it holds the broker's share, and up to 1 ms too much, since Kafka's timestamps are floored.
- `tick_to_forecast`, `engine`: the daemon's own histograms, scraped whenever a training begins or ends. Quantiles
  are interpolated as Prometheus does, the maximum is the bound of the highest bucket that was hit.

A tick counts as `training` if a training was under way at any time of it: from the daemon's log line before it copies
the history to the one that says that the model is rejected, or serves. `idle` is the rest. Ticks that persistence
served cost the engine less and stand apart from those of the network, which commonly is first promoted after 6,500
ticks of the real prices: --ticks 30000 has more of them.

Every offset's outcome is checked against the file that was fed; a wrong one ends the run with an error.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import _latency
from tests.bench._latency import BOTH, IDLE, NETWORK, PERSISTENCE, TRAINING, Watch
from tests.bench._parts import (
    Figures,
    Prices,
    check_outcomes,
    default_service,
    feed,
    kcat_agrees,
    make_input,
    running_broker,
)
from tests.bench._result import Figure, Result
from tests.e2e.harness import Samples, Service
from tests.support import read_all

EVERY = 2_000
IDLE_SECONDS = 10.0
HISTOGRAMS = {"tick_to_forecast": "streamer_tick_to_forecast_seconds", "engine": "streamer_engine_seconds"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=10_000, metavar="N", help="ticks with trainings (%(default)s)")
    parser.add_argument("--rate", type=float, default=500.0, metavar="R", help="a second (%(default)s)")
    parser.add_argument("--data", type=Path, metavar="CSV", help="prices by the minute (real ones, or a random walk)")


def run(arguments: argparse.Namespace) -> Result:
    """Feed with trainings, then without."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        prices = Prices.given_or_real(arguments.data, Path(name))
        found = asyncio.run(measure(Path(name), prices, arguments.ticks, arguments.rate))
    figures = [figure for name in ("visible", *HISTOGRAMS) for figure in _quantiles(name, found[name])]
    figures += [
        Figure.of(f"memory, {life}", "MB", [found["memory_mb"][life]["resident"]]) for life in ("trained", "idle")
    ]
    return Result("serving", tuple(figures), details=found)


def _quantiles(name: str, phases: Figures) -> Iterator[Figure]:
    """Each phase that had ticks; training's beside idle's."""
    for served in (PERSISTENCE, NETWORK, BOTH):
        for quantile in ("p50", "p99"):
            idle, training = (phases[f"{served} {activity}"].get(quantile) for activity in (IDLE, TRAINING))
            if idle is None:
                continue
            yield (beside := Figure.of(f"{name} {quantile}, {served} {IDLE}", "ms", [idle]))
            if training is not None:
                yield Figure.of(f"{name} {quantile}, {served} {TRAINING}", "ms", [training], beside)


async def measure(folder: Path, prices: Prices, ticks: int, rate: float) -> Figures:
    """Feed the first `ticks` rows, `rate` a second, and some more; AssertionError where an outcome is wrong."""
    end = ticks + round(rate * IDLE_SECONDS)
    with running_broker(folder) as bootstrap:
        service = await default_service(bootstrap, folder, retrain={"every": EVERY})
        await make_input(service)
        trained = await _life(Watch(service), prices.part(folder / "trained.csv", 0, ticks), rate)
        learned = {"trainings": _trainings(service, trained.scrapes[-1][1])}
        service.settings["retrain"] = {"every": 0}
        forecaster = NETWORK if service.swaps(f"{service.topic('prices')}-0") else PERSISTENCE
        idle = await _life(Watch(service, forecaster), prices.part(folder / "idle.csv", ticks, end), rate)
        figures = learned | await _report([trained, idle], prices.part(folder / "all.csv", 0, end))
    return {"data": prices.path.name, "ticks": ticks, "rate": rate, **figures}


async def _life(watch: Watch, prices: Prices, rate: float) -> Watch:
    """From start to stop of the daemon."""
    async with watch.service as service:
        await service.ready()
        async with watch.watching():
            await feed(service, prices, rate)
            await watch.over(len(prices.times()))
            watch.memory = _memory(service.pid)
        assert await service.terminate() == 0
    return watch


def _trainings(service: Service, scrape: Samples) -> Figures:
    """How many had which outcome, and what the log says of each."""
    outcomes = ("promoted", "rejected", "failed", "skipped")
    counts = {o: int(scrape.total("streamer_retrains_total", outcome=o)) for o in outcomes}
    names = ("model promoted", "model rejected", "training failed, serving goes on as it was")
    ended = [event for event in service.events() if event["event"] in names]
    kept = ("event", "model", "ratio", "skill", "reason", "seconds")
    return counts | {"ended": [{name: event[name] for name in kept if name in event} for event in ended]}


async def _report(watches: list[Watch], fed: Prices) -> Figures:
    service = watches[0].service
    published, sent = await service.published(), await read_all(service.bootstrap, service.topic("prices"))
    values = published.values()
    check_outcomes(values, fed.times(), service)
    assert not published.dead_letters
    return {
        "outcomes": {"forecasts": len(values), "dead_letters": 0, "kcat_agrees": kcat_agrees(service, values)},
        "visible": _latency.visible(watches, {record.offset: record.timestamp / 1000 for record in sent}),
        **{name: _latency.histograms(watches, metric) for name, metric in HISTOGRAMS.items()},
        "symbols": len(values[-1]["yhat"]),
        "memory_mb": {"trained": watches[0].memory, "idle": watches[1].memory},
    }


def _memory(pid: int) -> dict[str, float]:
    """Resident memory of a process, now and at its highest, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    names = {"resident": "VmRSS", "highest": "VmHWM"}
    return {name: round(int(status[key].split()[0]) * 1024 / 1e6, 1) for name, key in names.items()}
