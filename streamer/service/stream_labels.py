"""Which streams have series of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SHARED: Final = ""
"""The label `stream` of those that have none of their own: to Prometheus as if there were no such label, and no
stream's name."""

_SETTLED: Final = 600.0  # seconds for which ticks must have been expected, as the alert on a stale feed has it


@dataclass(slots=True, eq=False)
class Feed:
    """A stream's feed. event_time: of its newest tick (seconds), None before the first. label: under which it is shown.

    is_expected: whether ticks are, at a time in ms.
    """

    event_time: float | None = None
    label: str | None = None
    is_expected: Callable[[int], bool] = lambda time: False

    def is_open(self, now: float) -> bool:
        """Whether ticks are expected at `now` (seconds since the Unix epoch)."""
        return self.is_expected(int(now * 1000))

    def age(self, now: float) -> float:
        """Of the newest tick, at `now`."""
        return 0.0 if self.event_time is None else now - self.event_time


class StreamLabels:
    """The first `limit` streams have their name as label, those beyond have `SHARED`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._feeds: dict[str, Feed] = {}
        self._own: set[str] = set()
        self._beyond: dict[str, Feed] = {}

    def of(self, stream: str) -> str:
        """The label of `stream`; one from beyond has its own as soon as there is room."""
        if stream in self._own:
            return stream
        if len(self._own) >= self._limit:
            self._beyond.setdefault(stream, self.feed(stream))
            return SHARED
        self._beyond.pop(stream, None)
        self._own.add(stream)
        return stream

    def feed(self, stream: str) -> Feed:
        """What is known of the feed of `stream`."""
        return self._feeds.setdefault(stream, Feed())

    def forget(self, stream: str) -> None:
        """`stream` is ours no longer."""
        self._own.discard(stream)
        self._beyond.pop(stream, None)
        self._feeds.pop(stream, None)

    # Of those beyond, and in any thread

    @property
    def beyond(self) -> int:
        """How many there are."""
        return len(self._beyond)

    def is_any_open(self, now: float) -> bool:
        """Whether ticks of any are expected at `now` (seconds since the Unix epoch)."""
        return any(feed.is_open(now) for feed in list(self._beyond.values()))

    def worst_age(self, now: float) -> float:
        """The greatest age of a newest tick where ticks are expected, and have been for a while; 0 where there is none.

        One may have just opened, with a tick of yesterday, while another is open all the time.
        """
        feeds = list(self._beyond.values())
        return max((feed.age(now) for feed in feeds if feed.is_open(now) and feed.is_open(now - _SETTLED)), default=0.0)
