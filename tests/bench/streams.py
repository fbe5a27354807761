"""Many keyed streams in one daemon, all of whose ticks come at the same second.

    scripts/bench streams [--streams N] [--rounds N] [--sharing NAME]

Streams of 10 symbols each over 12 partitions, exactly once, by what serves them: `persistence`, the last price,
`stream`, a model for each, or `global`, one network and one set of experts for all. For each of them

- a volley of one tick a stream: seconds until the last forecast is seen, beside the same through aiokafka alone;
- memory that a stream adds to the daemon's;
- seconds of processor that a tick of a backlog takes, beside the same for one stream.

And without a broker, from the record to the forecast's, all streams of one model: what a tick takes where they are
stepped together, as the daemon does it, beside the same one by one.
"""

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import _models
from tests.bench._drive import (
    WARM,
    WINDOW,
    Answers,
    caught_up,
    daemon,
    make_topic,
    messages,
    producing,
    resident,
    rival,
    send,
    volley,
    worked_off,
)
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Figure, Limit, Result, interleaved
from tests.bench._volleys import Volleys, one_by_one, together
from tests.e2e.feeding import START

PARTITIONS, SYMBOLS = 12, 10


@dataclass(frozen=True, slots=True)
class Sharing:
    """A way to serve many streams. before: ticks of a stream before a model serves it, 0: none does.

    is_shared: whether all have one model. limit: of a tick's cost, beside that of one stream.
    """

    before: int = 0
    is_shared: bool = False
    limit: Limit | None = None


SHARINGS = {
    "persistence": Sharing(),
    "stream": Sharing(WINDOW),
    "global": Sharing(WINDOW, is_shared=True, limit=Limit(1.5)),
}

_IN_PROCESS = 3  # volleys in the process for one through the broker: they are quick
_BACKLOG = 10_000  # ticks of which the cost is taken


@dataclass
class Seen:
    """Of one way to serve. volleys, bare: seconds. costs: seconds of processor a tick. memory: MB a stream."""

    volleys: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    memory: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--streams", type=int, default=1_000, metavar="N", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of volleys (%(default)s)")
    parser.add_argument("--sharing", choices=SHARINGS, action="append", help="what serves; may be repeated (all)")


def run(arguments: argparse.Namespace) -> Result:
    """Each way to serve: with all streams, then with one."""
    (network,) = _models.exported([(Profile.of("default"), SYMBOLS)])
    figures = _together(network, arguments.streams, arguments.rounds)
    for sharing in arguments.sharing or SHARINGS:
        with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
            many, one = asyncio.run(_measure(Path(name), network, sharing, arguments.streams, arguments.rounds))
        bare = Figure.of(f"{sharing}, volley through bare aiokafka", "s", many.bare)
        single = Figure.of(f"{sharing}, processor, 1 stream", "us/tick", [1e6 * cost for cost in one.costs])
        costs = [1e6 * cost for cost in many.costs]
        figures += [
            bare,
            Figure.of(f"{sharing}, volley", "s", many.volleys, bare, Limit(0.5, absolute=True)),
            Figure.of(f"{sharing}, memory per stream", "MB", [many.memory]),
            single,
            Figure.of(
                f"{sharing}, processor, {arguments.streams:,} streams",
                "us/tick",
                costs,
                single,
                SHARINGS[sharing].limit,
            ),
        ]
    return Result("streams", tuple(figures), details={"streams": arguments.streams, "partitions": PARTITIONS})


def _together(network: bytes, streams: int, rounds: int) -> list[Figure]:
    model = _models.forecaster(Profile.of("default"), SYMBOLS, network)
    ways = {"one by one": one_by_one, "together": together}
    turns = {name: Volleys(model, streams, SYMBOLS, PARTITIONS, way).seconds for name, way in ways.items()}
    interleaved(turns, 1)  # the first meet cold caches
    taken = {
        name: [1e6 * seconds for seconds in found] for name, found in interleaved(turns, _IN_PROCESS * rounds).items()
    }
    alone = Figure.of(f"in process, {streams:,} streams one by one", "us/tick", taken["one by one"])
    return [alone, Figure.of(f"in process, {streams:,} streams together", "us/tick", taken["together"], alone)]


async def _measure(folder: Path, network: bytes, sharing: str, streams: int, rounds: int) -> tuple[Seen, Seen]:
    with running_broker(folder) as bootstrap:
        many = await _served(bootstrap, folder / "many", network, sharing, [b"k%d" % n for n in range(streams)], rounds)
        return many, await _served(bootstrap, folder / "one", network, sharing, [b"k"], rounds)


async def _served(
    bootstrap: str, folder: Path, network: bytes, sharing: str, keys: Sequence[bytes], rounds: int
) -> Seen:
    """From the start of a daemon that knows none of the streams."""
    folder.mkdir()
    topic, seen = await make_topic(bootstrap, "prices", PARTITIONS), Seen()
    way, schedule = SHARINGS[sharing], None
    if way.before:
        models = [
            _models.artifact(Profile.of("default"), SYMBOLS, network, seed=0 if way.is_shared else seed)
            for seed in range(len(keys))
        ]
        named = dict(zip([key.decode() for key in keys], models, strict=True))
        schedule = _models.store(folder / "models", named, START, way.before)
    async with await daemon(bootstrap, folder, topic, schedule, retrain={"every": 0}) as service:
        await service.ready()
        group, memory = service.settings["kafka"]["group_id"], resident(service.pid)
        rows = way.before + WARM - WINDOW
        await send(bootstrap, topic, messages(SYMBOLS, rows, 0, keys, PARTITIONS))
        await caught_up(bootstrap, group, rows * len(keys))
        for _ in range(rounds):
            more = max(1, _BACKLOG // len(keys))
            done, rows = rows * len(keys), rows + more
            work = messages(SYMBOLS, more, rows - more, keys, PARTITIONS)
            os.kill(service.pid, signal.SIGSTOP)  # or it keeps up with them, and there is no backlog
            try:
                await send(bootstrap, topic, work)
            finally:
                os.kill(service.pid, signal.SIGCONT)
            seen.costs.append((await worked_off(bootstrap, group, len(work), [service.pid], done)).cpu)
        seen.memory = (resident(service.pid) - memory) / len(keys)
        if len(keys) > 1:
            await _volleys(bootstrap, topic, service.topic("forecasts"), seen, keys, range(rows, rows + rounds))
    return seen


async def _volleys(
    bootstrap: str, topic: str, forecasts: str, seen: Seen, keys: Sequence[bytes], rows: Sequence[int]
) -> None:
    """The daemon and aiokafka alone by turns, each from a topic of its own."""
    source, target = [await make_topic(bootstrap, role, PARTITIONS) for role in ("prices", "rival")]
    async with AsyncExitStack() as stack:
        stack.enter_context(rival("-m", "tests.bench._bare", bootstrap, source, target, "exactly_once"))
        producer = await stack.enter_async_context(producing(bootstrap))
        ours, theirs = [
            await stack.enter_async_context(Answers.of(bootstrap, name, PARTITIONS)) for name in (forecasts, target)
        ]
        await volley(producer, source, messages(SYMBOLS, 1, 0, keys, PARTITIONS), theirs)  # while it starts
        for row in rows:
            work = messages(SYMBOLS, 1, row, keys, PARTITIONS)
            seen.volleys.append(await volley(producer, topic, work, ours))
            seen.bare.append(await volley(producer, source, work, theirs))
