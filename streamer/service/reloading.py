"""Another configuration for a daemon that runs: read, checked, and taken over whole, or refused whole."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from streamer.errors import ConfigError, StreamerError
from streamer.service.metrics import Metrics, ReloadOutcome
from streamer.settings import Settings, keys
from streamer.settings.types import Reload

log = structlog.get_logger(__name__)

TakeOver = Callable[[Settings, frozenset[Reload]], Awaitable[Sequence[str]]]
"""Checks what only the daemon can, and takes settings over, of which keys of these kinds have changed.

Returns the partitions that do so once the broker lets them. StreamerError, with nothing taken over.
"""


class NeedsRestartError(ConfigError):
    """Keys have changed that a daemon that runs cannot change."""

    def __init__(self, fixed: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(fixed)}: cannot change while the daemon runs: restart it, or put the old value back"
        )
        self._fixed = list(fixed)

    @property
    def details(self) -> dict[str, object]:
        """The keys."""
        return {"needs_restart": self._fixed}


class Reloading:
    """Reloads one after the other. What is refused leaves all as it was.

    load: reads the settings anew, as at the start; None: they have no source, and are not asked for. Values are never
    shown: some are secrets.
    """

    def __init__(
        self, settings: Settings, load: Callable[[], Settings] | None, take_over: TakeOver, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._load = load
        self._take_over = take_over
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        self._asked = asyncio.Event()
        self._is_open = False

    def ask(self) -> None:
        """Ask for a reload, from a signal: it comes as soon as the daemon serves, and the log says what came of it."""
        self._asked.set()

    async def run(self) -> None:
        """Allow reloads, and do those that were asked for, until cancelled."""
        self._is_open = True
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.reload()
            except StreamerError:
                continue  # told by the log and the metrics

    async def reload(self) -> dict[str, Any]:
        """Take over what the configuration has become; says which keys have changed. StreamerError: it is refused."""
        if self._load is None or not self._is_open:
            raise StreamerError("the daemon is starting: ask again once it is ready")
        async with self._one_at_a_time:
            try:
                changed, pending = await self._checked_and_taken(self._load)
            except Exception as error:
                self._metrics.reloaded(ReloadOutcome.REFUSED)
                log.error("configuration refused, the one before stays", reason=_one_line(error))
                if isinstance(error, StreamerError):
                    raise
                raise StreamerError(f"the configuration cannot be taken over: {_one_line(error)}") from error
            self._metrics.reloaded(ReloadOutcome.TAKEN)
            log.info("configuration taken over", changed=changed, pending=pending)
            return {"changed": changed, "needs_restart": [], "pending": pending}

    async def _checked_and_taken(self, load: Callable[[], Settings]) -> tuple[list[str], list[str]]:
        settings = await asyncio.to_thread(load)
        paths = list(keys.changed(self._settings, settings))
        if fixed := [keys.dotted(path) for path in paths if not keys.reloadable(path)]:
            raise NeedsRestartError(fixed)
        pending = await self._take_over(settings, frozenset(map(keys.reload_at, paths))) if paths else ()
        self._settings = settings
        return [keys.dotted(path) for path in paths], list(pending)


def _one_line(error: Exception) -> str:
    return str(error) if isinstance(error, StreamerError) else " ".join(repr(error).split())[:300]
