"""What the daemon knows of its own health: named checks, progress of its main loop, lag of its event loop."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Histogram

LAG_INTERVAL: Final = 0.1
"""Seconds between two measurements of the event loop's lag: a tenth of the shortest stall worth an alert."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check. `live`: whether its failure asks for a restart, not only for patience."""

    ok: bool
    detail: str
    live: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe is told: the verdict, the state of each check by name, and which of them fail."""

    ok: bool
    checks: Mapping[str, str]
    failing: tuple[str, ...]


class Health:
    """Named checks, and the time of the last progress.

    Ready: there are checks, and none of them fails. Live: no check marked `live` fails, and progress was made
    within `stall_after` seconds, so that a process that is merely running but stuck is started again.
    """

    def __init__(self, stall_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_after = stall_after
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._last_progress = clock()

    def set(self, name: str, ok: bool, detail: str, live: bool = False) -> None:
        """State check `name` anew; `detail` is its state in words, as the probes show it."""
        self._checks[name] = Check(ok, detail, live)

    def progress(self) -> None:
        """Note that the main loop came round; call it when there was nothing to do, too."""
        self._last_progress = self._clock()

    def readiness(self) -> Report:
        """Whether the daemon does its work. Before the first check is stated it does not."""
        report = _report(dict(self._checks))  # a copy: a scrape asks in a thread of its own
        return Report(report.ok and bool(self._checks), report.checks, report.failing)

    def liveness(self) -> Report:
        """Whether the process is worth keeping."""
        idle = self._clock() - self._last_progress
        progress = Check(idle <= self._stall_after, f"{idle:.1f} s ago, stalled after {self._stall_after:g} s")
        return _report({name: check for name, check in self._checks.items() if check.live} | {"progress": progress})


def _report(checks: Mapping[str, Check]) -> Report:
    failing = tuple(name for name, check in checks.items() if not check.ok)
    return Report(not failing, {name: check.detail for name, check in checks.items()}, failing)


async def watch_loop_lag(lag: Histogram, interval: float = LAG_INTERVAL) -> None:
    """Measure until cancelled how much later than asked for a sleep of `interval` seconds ends.

    That is the time for which something kept the event loop: a tick, a snapshot, a collection of garbage.
    """
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + interval
        await asyncio.sleep(interval)
        lag.observe(max(0.0, clock() - due))
