"""How fast a backlog is worked off, exactly once, on one processor, beside bare aiokafka.

    scripts/bench catchup [--ticks N] [--rounds N]

A topic of one partition holds the ticks before anyone reads them. In each round the daemon reads it with the article's
profile at 2 symbols, aiokafka alone passes the same records on (a transaction for 500 of them), and the same for the
default settings at 10 symbols; each is bound to the first processor, the broker to none. The model is one of the store,
which serves after 100 ticks; none is trained. Ticks a second by the group's commits, without the first twentieth.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from tests.bench import _models
from tests.bench._drive import WINDOW, Rate, daemon, make_topic, messages, rival, send, worked_off
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Figure, Limit, Result
from tests.e2e.feeding import START

PROFILES = {"article": (2, 8_000.0), "default": (10, 3_000.0)}
"""Symbols, and the ticks a second to be reached."""

_CORE = {0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=200_000, metavar="N", help="of the backlog (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """All rounds."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        found = asyncio.run(measure(Path(name), arguments.ticks, arguments.rounds))
    figures = []
    for profile, (count, aim) in PROFILES.items():
        bare, ours = ([rate.per_second for rate in found[who, profile]] for who in ("bare", "streamer"))
        rate = Figure.of(f"bare aiokafka, {count} symbols", "ticks/s", bare)
        limit = Limit(aim, absolute=True, least=True)
        figures += [rate, Figure.of(f"streamer, {profile}, {count} symbols", "ticks/s", ours, rate, limit)]
        spent = [1e6 * rate.cpu for rate in found["bare", profile]]
        beside = Figure.of(f"bare aiokafka, processor, {count} symbols", "us/tick", spent)
        spent = [1e6 * rate.cpu for rate in found["streamer", profile]]
        figures += [beside, Figure.of(f"streamer, processor, {profile}", "us/tick", spent, beside)]
    return Result("catchup", tuple(figures), details={"ticks": arguments.ticks})


async def measure(folder: Path, ticks: int, rounds: int) -> dict[tuple[str, str], list[Rate]]:
    """Rates by who and profile, one for each round."""
    profiles = [Profile.of(name) for name in PROFILES]
    exported = _models.exported([(profile, PROFILES[profile.name][0]) for profile in profiles])
    found: dict[tuple[str, str], list[Rate]] = {(who, name): [] for who in ("bare", "streamer") for name in PROFILES}
    with running_broker(folder) as bootstrap:
        for profile, model in zip(profiles, exported, strict=True):
            count = PROFILES[profile.name][0]
            topic = await make_topic(bootstrap, profile.name)
            await send(bootstrap, topic, messages(count, ticks))
            kept = _models.artifact(profile, count, model)
            schedule = _models.store(folder / f"models-{profile.name}", {f"{topic}-0": kept}, START, WINDOW)
            for _ in range(rounds):
                found["streamer", profile.name].append(await _ours(bootstrap, folder, topic, schedule, ticks))
                found["bare", profile.name].append(await _bare(bootstrap, topic, ticks))
    return found


async def _ours(bootstrap: str, folder: Path, topic: str, schedule: str, ticks: int) -> Rate:
    service = await daemon(bootstrap, folder, topic, schedule)
    async with service:
        os.sched_setaffinity(service.pid, _CORE)
        rate = await worked_off(bootstrap, service.settings["kafka"]["group_id"], ticks, [service.pid])
        assert await service.terminate() == 0
    return rate


async def _bare(bootstrap: str, topic: str, ticks: int) -> Rate:
    target = await make_topic(bootstrap, "bare")
    with rival("-m", "tests.bench._bare", bootstrap, topic, target, "exactly_once") as pid:
        os.sched_setaffinity(pid, _CORE)
        return await worked_off(bootstrap, f"{target}-bare", ticks, [pid])
