"""How soon the daemon serves again, on a real Kafka: after a stop, after SIGKILL, and in another instance.

    scripts/bench starts [--times N] [--history N] [--rate R] [--session-timeout S] [--data CSV]

The daemon has its default settings but for the training: it is fed the history and trains once, with a short fit, after
which a model serves and none is trained any more. Then ticks arrive steadily, also while nobody serves, and:

- `graceful`: SIGTERM, and it is started again once it has ended; `killed`: SIGKILL, and it is started again at once;
  `killed_static`: the same with `kafka.instance_id`. Seconds from the start of the process: `ready` until /readyz
  answers 200, `forecast` until a `read_committed` subscriber has the first forecast that it made. `cpu`: seconds of
  it that the process had taken when it was ready, which say more where the machine is busy.
- `failover`: two instances with a partition each, of which one is killed. Seconds from then: `silent` until there is a
  forecast of its partition by the other, `shared` the longest time without one of the other's own partition.
- `interpreter`, `imports`: the bare costs, Python that does nothing, and one that imports the daemon.

The broker makes nobody wait for further members (`group.initial.rebalance.delay.ms` is
0); with Kafka's default, a group that was empty takes 3 s more, which a static member never meets.
"""

import argparse
import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from streamer.feeding import encode_tick
from tests.bench._parts import Figures, Prices, default_service, make_input, running_broker
from tests.bench._result import Figure, Result
from tests.e2e.feeding import Feed, Message
from tests.e2e.harness import Service
from tests.support import CHECKOUT, eventually

FIT = {"steps": 30, "refit": False}
LIMIT = 120.0  # seconds for a start, the session timeout being 30
LIVE = 20_000  # ticks held ready for the time in which the daemon is started again and again
BARE = {"interpreter": "pass", "imports": "import streamer.service.daemon"}


@dataclass(frozen=True, slots=True)
class Plan:
    """times: of each situation. history: ticks of a partition. rate: ticks a second of each. timeout: the session's."""

    times: int
    history: int
    rate: float
    timeout: float

    def sections(self, **kafka: object) -> Figures:
        """Settings that differ from the defaults."""
        own = {"session_timeout": self.timeout, "transaction_timeout": min(20.0, self.timeout / 2)}
        retrain = {"first": self.history, "every": self.history, "history": 2 * self.history, "drift": 0}
        return {"kafka": {"start": "earliest"} | own | kafka, "retrain": retrain, "fit": FIT}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--times", type=int, default=5, metavar="N", help="of each (%(default)s)")
    parser.add_argument("--history", type=int, default=10_000, metavar="N", help="ticks before (%(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="R", help="ticks a second (%(default)s)")
    parser.add_argument("--session-timeout", type=float, default=30.0, metavar="S", help="seconds (%(default)s)")
    parser.add_argument("--data", type=Path, metavar="CSV", help="prices by the minute (real ones, or a random walk)")


def run(arguments: argparse.Namespace) -> Result:
    """All situations; those of one instance beside the import of the daemon, which no start can do without."""
    plan = Plan(arguments.times, arguments.history, arguments.rate, arguments.session_timeout)
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        prices = Prices.given_or_real(arguments.data, Path(name))
        found = asyncio.run(measure(Path(name), prices, plan))
    imports = Figure.of("imports, seconds", "s", found["imports"]["seconds"])
    figures = [Figure.of("interpreter, seconds", "s", found["interpreter"]["seconds"]), imports]
    for situation in ("graceful", "killed_static", "killed"):
        figures += [
            Figure.of(f"{situation}, {name}", "s", values, imports) for name, values in found[situation].items()
        ]
    figures += [Figure.of(f"failover, {name}", "s", values) for name, values in found["failover"].items()]
    return Result("starts", tuple(figures), details=found)


async def measure(folder: Path, prices: Prices, plan: Plan) -> Figures:
    """All situations, one after the other."""
    bare = {name: _by_name([_bare(code) for _ in range(plan.times)]) for name, code in BARE.items()}
    with running_broker(folder) as bootstrap:
        starts = await _restarts(bootstrap, folder, prices, plan)
        failover = await _failover(bootstrap, folder, prices, plan)
    return {"times": plan.times, "history": plan.history, **bare, **starts, **failover}


# --- one instance -----------------------------------------------------------------------------------------------------


async def _restarts(bootstrap: str, folder: Path, prices: Prices, plan: Plan) -> Figures:
    """One after the other, the static member last: it leaves its place in the group behind when it stops."""
    service = await default_service(bootstrap, folder, **plan.sections())
    live = await _learned(service, prices, plan, partitions=1)
    async with service, _watching(service) as seen, Feed(bootstrap, service.topic("prices")).flowing(live, plan.rate):
        await service.ready()
        graceful = [await _again(service, seen, plan, service.terminate) for _ in range(plan.times)]
        killed = [await _again(service, seen, plan, service.kill) for _ in range(plan.times)]
        service.settings["kafka"]["instance_id"] = "bench"
        await _again(service, seen, plan, service.terminate)
        static = [await _again(service, seen, plan, service.kill) for _ in range(plan.times)]
        assert await service.terminate() == 0
    return {"graceful": _by_name(graceful), "killed_static": _by_name(static), "killed": _by_name(killed)}


async def _again(service: Service, seen: "Seen", plan: Plan, end: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Let it serve for a while, end it, start it: seconds from then."""
    await seen.first(await seen.ends(after=round(2 * plan.rate)))
    await end()
    assert service.code() in (0, -signal.SIGKILL), service.stderr()
    ends, began = await seen.ends(), time.monotonic()
    service.start()
    (ready, cpu), forecast = await asyncio.gather(_ready(service), seen.first(ends))
    return {"ready": ready - began, "forecast": forecast - began, "cpu": cpu}


async def _ready(service: Service) -> tuple[float, float]:
    """When /readyz first answered 200, and the seconds of CPU that the process had taken by then."""

    async def is_ready() -> bool:
        assert not service.has_ended(), service.stderr()
        return (await service.get("/readyz"))[0] == 200

    await eventually(is_ready, timeout=LIMIT)
    user, system = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return time.monotonic(), (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# --- two instances ----------------------------------------------------------------------------------------------------


async def _failover(bootstrap: str, folder: Path, prices: Prices, plan: Plan) -> Figures:
    service = await default_service(bootstrap, folder, **plan.sections())
    service.settings["kafka"]["topics"]["prices"] = "shared"
    live = await _learned(service, prices, plan, partitions=2)
    flow = Feed(bootstrap, service.topic("prices")).flowing(live, 2 * plan.rate)
    async with service, service.sibling() as other, _watching(service) as seen, flow:
        found = []
        for _ in range(plan.times):
            await eventually(lambda: _share(service, other), timeout=LIMIT)
            ends = await seen.ends(after=round(2 * plan.rate))
            await asyncio.gather(*(seen.first({partition: end}) for partition, end in ends.items()))
            found.append(await _killed(service, other, seen))
            other.start()
        await eventually(lambda: _share(service, other), timeout=LIMIT)
        assert [await each.terminate() for each in (service, other)] == [0, 0]
    return {"failover": _by_name(found)}


async def _killed(survivor: Service, victim: Service, seen: "Seen") -> dict[str, float]:
    """Kill one: seconds until its partition has a forecast again, and at most between those of the other."""
    (lost,), (kept,) = _partitions(victim), _partitions(survivor)
    began = time.monotonic()
    await victim.kill()
    ends = await seen.ends()
    again = await seen.first({lost: ends[lost]})
    moments = [moment for moment, _ in seen.forecasts[kept] if began <= moment]
    return {"silent": again - began, "shared": max(after - before for before, after in pairwise([began, *moments]))}


def _share(*services: Service) -> bool:
    for service in services:
        assert not service.has_ended(), service.stderr()
    return all(len(_partitions(service)) == 1 for service in services)


def _partitions(service: Service) -> list[int]:
    """The partitions that it was given last."""
    assigned = service.events("partitions assigned")
    return [int(name.rpartition("-")[2]) for name in assigned[-1]["partitions"]] if assigned else []


# --- what both need ---------------------------------------------------------------------------------------------------


async def _learned(service: Service, prices: Prices, plan: Plan, partitions: int) -> list[Message]:
    """A life of the daemon in which it gets the history, and a model for each partition; returns the ticks to come."""
    await make_input(service, partitions)
    messages = [
        Message(encode_tick(tick), partition=partition)
        for tick in prices.there_and_back(plan.history + LIVE)
        for partition in range(partitions)
    ]
    history = plan.history * partitions

    def serves() -> bool:
        assert not service.has_ended(), service.stderr()
        assert not service.events("model rejected"), "the model was rejected, so that its restoring cannot be seen"
        return len(service.events("model serves")) == partitions

    async with service:
        await service.ready()
        await Feed(service.bootstrap, service.topic("prices")).send(messages[:history])
        await eventually(serves, timeout=600, interval=0.2)
        await service.caught_up(history)
        assert await service.terminate() == 0
    service.settings["retrain"]["every"] = 0
    return messages[history:]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a subscriber sees: when (monotonic seconds) and at which offset of its partition it met each forecast."""

    consumer: AIOKafkaConsumer
    forecasts: defaultdict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    async def ends(self, after: int = 0) -> dict[int, int]:
        """The next offset of each partition, or that of so many records later."""
        found = await self.consumer.end_offsets(self.consumer.assignment())
        return {tp.partition: end + after for tp, end in found.items()}

    async def first(self, ends: dict[int, int]) -> float:
        """When the first forecast at or behind any of these offsets is seen."""
        return await eventually(lambda: min(self._behind(ends), default=0.0), timeout=LIMIT, interval=0.005)

    def _behind(self, ends: dict[int, int]) -> Iterable[float]:
        for partition, end in ends.items():
            known = self.forecasts[partition]
            place = bisect_left(known, end, key=lambda each: each[1])
            yield from (moment for moment, _ in known[place : place + 1])

    async def follow(self) -> None:
        """Read until cancelled."""
        while True:
            batches = await self.consumer.getmany(timeout_ms=500)
            now = time.monotonic()
            for tp, records in batches.items():
                self.forecasts[tp.partition] += [(now, record.offset) for record in records]


@asynccontextmanager
async def _watching(service: Service) -> AsyncIterator[Seen]:
    """Subscribe beside the block, from the end on."""
    consumer = AIOKafkaConsumer(
        service.topic("forecasts"),
        bootstrap_servers=service.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        isolation_level="read_committed",
    )
    async with consumer:
        seen = Seen(consumer)
        following = asyncio.create_task(seen.follow())
        try:
            yield seen
        finally:
            following.cancel()
            await asyncio.wait([following])


def _bare(code: str) -> dict[str, float]:
    """What Python takes for this."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.monotonic() - began, "cpu": cpu}


def _by_name(found: list[dict[str, float]]) -> Figures:
    return {name: [round(each[name], 3) for each in found] for name in found[0]}
