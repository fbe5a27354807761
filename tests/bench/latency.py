"""From a tick on the input topic to its forecast on the output topic, at 20 ticks/s, beside bare aiokafka.

    scripts/bench latency [--ticks N] [--rounds N] [--rate R] [--training-every N] [--quix PYTHON]

The daemon (default settings, 10 symbols, a model of the store) and aiokafka alone, which passes on what it reads, run
in both delivery modes all the while, each with topics of its own, and get their ticks by turns. From just before a tick
is sent until a `read_committed` subscriber has the answer.

`training`: a daemon (exactly once) that trains while it gets ticks, once a round, beside the same between trainings.
And aiokafka alone, which takes turns with it: what the same training costs who has no part in it but its processors.

--quix: an interpreter that has the package quixstreams, which then takes its turns too, exactly once, with a commit for
each message: python -m venv /tmp/quix && /tmp/quix/bin/pip install quixstreams.
"""

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer

from tests.bench import _models
from tests.bench._drive import (
    WARM,
    WINDOW,
    Answers,
    burst,
    caught_up,
    daemon,
    make_topic,
    messages,
    producing,
    rival,
    send,
)
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Figure, Limit, Result
from tests.e2e.feeding import START
from tests.e2e.harness import Service

SYMBOLS = 10
MODES = ("at_least_once", "exactly_once")
TRAINED = 300  # ticks before those that are measured
_ENDS = ("model serves", "model rejected")
_FAILED = "training failed, serving goes on as it was"
_BARE = "bare aiokafka "
_CHUNK = 20  # ticks between two looks at whether it still trains


@dataclass(frozen=True, slots=True)
class Line:
    """Who answers: the topic that it reads and its answers."""

    name: str
    topic: str
    answers: Answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=200, metavar="N", help="of each in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="R", help="ticks a second (%(default)s)")
    parser.add_argument("--training-every", type=int, default=400, metavar="N", help="ticks (%(default)s)")
    parser.add_argument("--quix", metavar="PYTHON", help="interpreter that has quixstreams")


def run(arguments: argparse.Namespace) -> Result:
    """All rounds, then a training."""
    quix = shutil.which(arguments.quix) if arguments.quix else None
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        rounds, phases = asyncio.run(measure(Path(name), arguments, quix))
    figures: list[Figure] = []
    for mode in MODES:
        for q, limit in ((50, Limit(1.2)), (99, None)):
            bare = _percentile(f"bare aiokafka {mode}", rounds[f"bare aiokafka {mode}"], q)
            ours = rounds[f"streamer {mode}"]
            figures += [bare, _percentile(f"streamer {mode}", ours, q, bare, limit)]
    if quix:
        for q in (50, 99):
            theirs = _percentile("quix exactly_once", rounds["quix"], q)
            ours = rounds["streamer exactly_once"]
            figures += [theirs, _percentile("streamer exactly_once beside quix", ours, q, theirs)]
    # All rounds as one: of a few hundred, the 99th percentile is the second or third worst.
    for who, most in (("", Limit(1.5)), (_BARE, None)):
        for q, limit in ((50, None), (99, most)):
            idle = _percentile(f"{who}idle", [phases[f"{who}idle"]], q)
            figures += [idle, _percentile(f"{who}while training", [phases[f"{who}training"]], q, idle, limit)]
    notes = () if quix else ("Quix Streams is not beside it: --quix names no interpreter that has it",)
    counts = {name: len(values) for name, values in phases.items()}
    return Result("latency", tuple(figures), details={"ticks": counts}, notes=notes)


def _percentile(
    name: str, rounds: Sequence[Sequence[float]], q: int, beside: Figure | None = None, limit: Limit | None = None
) -> Figure:
    return Figure.of(f"p{q} {name}", "ms", [1e3 * float(np.percentile(each, q)) for each in rounds], beside, limit)


async def measure(
    folder: Path, arguments: argparse.Namespace, quix: str | None
) -> tuple[dict[str, list[list[float]]], dict[str, list[float]]]:
    """Seconds of each tick: by who in each round, and idle and while training."""
    profile = Profile.of("default")
    (exported,) = _models.exported([(profile, SYMBOLS)])
    with running_broker(folder) as bootstrap:
        async with producing(bootstrap) as producer, AsyncExitStack() as stack:
            lines = [
                await stack.enter_async_context(line)
                for mode in MODES
                for line in (
                    _ours(bootstrap, folder, mode, profile, exported),
                    _rival(bootstrap, f"bare aiokafka {mode}", ("-m", "tests.bench._bare"), mode),
                )
            ]
            if quix:
                script = str(Path(__file__).with_name("_quix.py"))
                lines.append(await stack.enter_async_context(_rival(bootstrap, "quix", (script,), python=quix)))
            rounds = await _rounds(producer, lines, arguments)
        async with producing(bootstrap) as producer:
            return rounds, await _training(bootstrap, folder, producer, arguments)


async def _rounds(
    producer: AIOKafkaProducer, lines: Sequence[Line], arguments: argparse.Namespace
) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {line.name: [] for line in lines}
    for number in range(arguments.rounds):
        values = messages(SYMBOLS, arguments.ticks, WARM + number * arguments.ticks)
        for line in lines:
            found[line.name].append(await burst(producer, line.topic, values, line.answers, arguments.rate))
    return found


@asynccontextmanager
async def _ours(bootstrap: str, folder: Path, mode: str, profile: Profile, exported: bytes) -> AsyncIterator[Line]:
    topic = await make_topic(bootstrap, "prices")
    model = _models.artifact(profile, SYMBOLS, exported)
    schedule = _models.store(folder / f"models-{topic}", {f"{topic}-0": model}, START, WINDOW)
    await send(bootstrap, topic, messages(SYMBOLS, WARM))
    async with await daemon(bootstrap, folder, topic, schedule, kafka={"delivery": mode}) as service:
        await service.ready()
        await caught_up(bootstrap, service.settings["kafka"]["group_id"], WARM)
        async with Answers.of(bootstrap, service.topic("forecasts")) as answers:
            yield Line(f"streamer {mode}", topic, answers)


@asynccontextmanager
async def _rival(
    bootstrap: str, name: str, script: Sequence[str], *more: str, python: str | None = None
) -> AsyncIterator[Line]:
    topic, target = await make_topic(bootstrap, "prices"), await make_topic(bootstrap, "rival")
    options = {} if python is None else {"python": python}
    with rival(*script, bootstrap, topic, target, *more, **options):
        async with Answers.of(bootstrap, target) as answers:
            seeing = asyncio.create_task(answers.seen(WARM))
            await send(bootstrap, topic, messages(SYMBOLS, WARM))
            await seeing
            yield Line(name, topic, answers)


async def _training(
    bootstrap: str, folder: Path, producer: AIOKafkaProducer, arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Idle up to the tick that makes a training due, and from that on until it has ended, round by round."""
    topic, every, at = await make_topic(bootstrap, "prices"), arguments.training_every, TRAINED
    retrain = {"first": TRAINED + every, "every": every, "drift": 0}
    await send(bootstrap, topic, messages(SYMBOLS, TRAINED))
    found: dict[str, list[float]] = {f"{who}{phase}": [] for who in ("", _BARE) for phase in ("idle", "training")}
    async with (
        _rival(bootstrap, _BARE, ("-m", "tests.bench._bare"), "exactly_once") as bare,
        await daemon(bootstrap, folder, topic, None, retrain=retrain) as service,
    ):
        await service.ready()
        await caught_up(bootstrap, service.settings["kafka"]["group_id"], TRAINED)
        async with Answers.of(bootstrap, service.topic("forecasts")) as answers:

            async def tick(most: int, phase: str) -> None:
                nonlocal at
                values = messages(SYMBOLS, min(most, _CHUNK), at)
                found[phase] += await burst(producer, topic, values, answers, arguments.rate)
                at += len(values)
                found[_BARE + phase] += await burst(producer, bare.topic, values, bare.answers, arguments.rate)

            for ended in range(arguments.rounds):
                due = TRAINED + (ended + 1) * every
                while at < due - 1:
                    await tick(due - 1 - at, "idle")
                while _ended(service) == ended:
                    await tick(_CHUNK, "training")
    return found


def _ended(service: Service) -> int:
    """How many trainings have."""
    assert not service.events(_FAILED), service.events(_FAILED)
    return sum(len(service.events(end)) for end in _ENDS)
