"""What serving takes: resident memory, and from start to ready with a stored model, beside `import tensorflow` alone.

    scripts/bench footprint [--rounds N] [--ticks N]

The daemon has its default settings, 10 symbols, and a model in its store that served before it was stopped. Started
again, it is ready once /readyz says so; its memory is looked at when it has served some ticks more. TensorFlow is
imported by a Python that does nothing else, by turns with the daemon.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import _models
from tests.bench._drive import WINDOW, caught_up, daemon, make_topic, messages, resident, send
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Figure, Limit, Result
from tests.e2e.feeding import START
from tests.e2e.harness import Service
from tests.support import CHECKOUT, eventually

SYMBOLS = 10
_IMPORT = "import tensorflow; print(open('/proc/self/status').read())"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    parser.add_argument("--ticks", type=int, default=200, metavar="N", help="after each start (%(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """All rounds."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        ours, theirs = asyncio.run(measure(Path(name), arguments.rounds, arguments.ticks))
    memory = Figure.of("import tensorflow, memory", "MB", [each[1] for each in theirs])
    start = Figure.of("import tensorflow, time", "s", [each[0] for each in theirs])
    figures = (
        memory,
        Figure.of("serving, memory", "MB", [each[1] for each in ours], memory, Limit(100.0, absolute=True)),
        start,
        Figure.of("start to ready", "s", [each[0] for each in ours], start, Limit(1.0, absolute=True)),
    )
    return Result("footprint", figures)


Taken = tuple[float, float]
"""Seconds and MB."""


async def measure(folder: Path, rounds: int, ticks: int) -> tuple[list[Taken], list[Taken]]:
    """The daemon's and TensorFlow's, by turns."""
    profile = Profile.of("default")
    (network,) = _models.exported([(profile, SYMBOLS)])
    ours, theirs = [], []
    with running_broker(folder) as bootstrap:
        topic = await make_topic(bootstrap, "prices")
        model = _models.artifact(profile, SYMBOLS, network)
        schedule = _models.store(folder / "models", {f"{topic}-0": model}, START, WINDOW)
        service = await daemon(bootstrap, folder, topic, schedule)
        async with service:
            await _life(service, bootstrap, 0, WINDOW + ticks)
            for number in range(rounds):
                theirs.append(_tensorflow())
                began = time.perf_counter()
                service.start()
                ours.append(await _life(service, bootstrap, WINDOW + ticks * (1 + number), ticks, began))
    return ours, theirs


async def _life(service: Service, bootstrap: str, row: int, ticks: int, began: float = 0.0) -> Taken:
    async def is_ready() -> bool:
        assert not service.has_ended(), service.stderr()
        return (await service.get("/readyz"))[0] == 200

    await eventually(is_ready, timeout=60, interval=0.005)
    ready = time.perf_counter() - began
    await send(bootstrap, service.topic("prices"), messages(SYMBOLS, ticks, row))
    await caught_up(bootstrap, service.settings["kafka"]["group_id"], row + ticks)
    memory = resident(service.pid)
    assert await service.terminate() == 0
    return ready, memory


def _tensorflow() -> Taken:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    found = re.search(r"^VmRSS:\s+(\d+) kB", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return time.perf_counter() - began, int(found[1]) * 1024 / 1e6
