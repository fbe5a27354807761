"""Forecasts as they were published beside those that were computed again, offset by offset."""

import hashlib
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import ConsumerRecord

from streamer.codecs import Codec
from streamer.errors import StreamerError

TOLERANCE: Final = 1e-6
"""Relative; between two kernel sets of LiteRT a forecast was seen to differ by 1.6e-7 of the predicted change."""

_SHOWN = 5  # differences that are told of a stream, and fields of each
_WINDOW = 100_000  # offsets that a second forecast may lie behind the first: more than any batch that is sent again
_PENDING_BYTES = 64 * 2**20  # forecasts that wait for the one that was published
_NO_INPUT = "its input has expired"
_NO_OUTPUT = "what was published of it has expired"
_FAR_BEHIND = f"published again more than {_WINDOW:,} offsets later"


@dataclass(frozen=True, slots=True)
class Difference:
    """One offset whose forecast is another. what: a line for each field that differs, or what else is wrong."""

    offset: int
    what: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What came of one stream.

    judged: offsets whose outcome is known; forecasts: those of them that have one. equal: in all bytes. within: by
    `TOLERANCE`, where bits need not be equal. doubled: further forecasts of an offset, equal to the first, again:
    offsets of the first of those. unjudged: offsets by reason. untold: differences beyond those that are kept. others:
    what is other here than where it was served. sections: of the settings, too.
    """

    judged: int = 0
    forecasts: int = 0
    equal: int = 0
    within: int = 0
    different: int = 0
    missing: int = 0
    unexpected: int = 0
    doubled: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    untold: int = 0
    again: list[int] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    sections: set[str] = field(default_factory=set)

    @property
    def faults(self) -> int:
        """Offsets that are not as they should be."""
        return self.different + self.missing + self.unexpected

    def note(self, offset: int, *what: str) -> None:
        """Tell of an offset, if it is one of the first."""
        if len(self.differences) == _SHOWN:
            self.untold += 1
        else:
            more = [] if len(what) <= _SHOWN else [f"{len(what) - _SHOWN} more"]
            self.differences.append(Difference(offset, (*what[:_SHOWN], *more)))


@dataclass(slots=True)
class _Offset:
    """One of the input.

    value: its forecast computed again, None: it has none, or was seen. seen: digest of the first that was published.
    is_wrong: one of them was already found to be.
    """

    stream: str
    value: bytes | None
    exact: bool
    reason: str | None = None
    seen: bytes | None = None
    is_wrong: bool = False


class Comparison:
    """Of one partition: `expect` for each input record in order, `publish` for each forecast as it was published.

    Forecasts may come in any order that lags or repeats by no more than some thousand offsets; memory is bounded.
    codec: of the forecasts. source: `<input topic>-<partition>`. start, end: offsets that are asked for. expired: input
    offset up to which (exclusive) what was published may be there no more.
    """

    def __init__(self, codec: Codec, source: str, start: int, end: int) -> None:
        self.tallies: dict[str, Tally] = {}
        self.published = self.foreign = 0
        self.expired = 0
        self._codec = codec
        self._prefix = f"{source}-".encode()
        self._start, self.end = start, end
        self._window: OrderedDict[int, _Offset] = OrderedDict()
        self._pending = 0
        self._forgotten = -1

    def tally(self, stream: str) -> Tally:
        """That of a stream."""
        return self.tallies.setdefault(stream, Tally())

    def expect(self, offset: int, stream: str, value: bytes | None, *, exact: bool) -> None:
        """The input at `offset` has this forecast, or none. exact: it is to be equal in all bits."""
        tally = self.tally(stream)
        tally.judged += 1
        if value is not None:
            tally.forecasts += 1
            self._pending += len(value)
        self._remember(offset, _Offset(stream, value, exact))

    def pass_over(self, offset: int, stream: str, reason: str) -> None:
        """Nobody can say what the input at `offset` brought about."""
        self.tally(stream).unjudged[reason] += 1
        self._remember(offset, _Offset(stream, None, True, reason))

    def _remember(self, offset: int, found: _Offset) -> None:
        self._window[offset] = found
        while len(self._window) > _WINDOW or self._pending > _PENDING_BYTES:
            self._forget()

    def _forget(self) -> None:
        self._forgotten, oldest = self._window.popitem(last=False)
        tally, is_forecast = self.tally(oldest.stream), oldest.value is not None
        self._pending -= len(oldest.value or b"")
        if oldest.seen is None and oldest.reason is None and self._forgotten < self.expired:
            tally.judged -= 1
            tally.forecasts -= is_forecast
            tally.unjudged[_NO_OUTPUT] += 1
        elif is_forecast:
            tally.missing += 1
            tally.note(self._forgotten, "no forecast was published")

    def source(self, record: ConsumerRecord) -> int | None:
        """Input offset of a published forecast; None where it is none of this partition's."""
        for name, value in record.headers:
            if name == "ce_id" and value is not None and value.startswith(self._prefix):
                number = value.removeprefix(self._prefix)
                return int(number) if number.isdigit() and len(number) < 20 else None
        return None

    def publish(self, record: ConsumerRecord) -> None:
        """A forecast that was published; its input comes before it."""
        offset = self.source(record)
        if offset is None:
            self.foreign += 1
            return
        self.published += 1
        if not self._start <= offset < self.end:
            return
        stream = (record.key or b"").decode(errors="replace")
        found = self._window.get(offset)
        if found is None:
            self.tally(stream).unjudged[_FAR_BEHIND if offset <= self._forgotten else _NO_INPUT] += 1
        elif found.reason is None:
            self._judge(offset, found, stream, record.value or b"")

    def _judge(self, offset: int, found: _Offset, stream: str, value: bytes) -> None:
        tally, digest = self.tally(found.stream or stream), hashlib.blake2b(value, digest_size=16).digest()
        if found.seen is not None:
            if found.seen == digest:
                tally.doubled += 1
                tally.again += [offset] if len(tally.again) < _SHOWN else []
            else:
                self._wrong(offset, found, tally, "published again with other bytes")
            return
        found.seen, ours = digest, found.value
        if ours is None:
            found.is_wrong = True
            tally.unexpected += 1
            tally.note(offset, "a forecast was published of a message that has none")
            return
        found.value = None
        self._pending -= len(ours)
        if value == ours and stream == found.stream:
            tally.equal += 1
            return
        what = [] if stream == found.stream else [f"key: published {stream!r}, computed {found.stream!r}"]
        what += self._unlike(value, ours, 0.0 if found.exact else TOLERANCE)
        if what:
            self._wrong(offset, found, tally, *what)
        else:
            tally.within += 1

    def _wrong(self, offset: int, found: _Offset, tally: Tally, *what: str) -> None:
        if not found.is_wrong:
            found.is_wrong = True
            tally.different += 1
        tally.note(offset, *what)

    def _unlike(self, there: bytes, here: bytes, tolerance: float) -> list[str]:
        """Fields of two forecasts that differ by more than `tolerance`, a line each."""
        try:
            decoded = self._codec.decode(there), self._codec.decode(here)
        except StreamerError as error:
            return [f"it cannot be decoded: {error}"]
        found = list(_differences("", *decoded, tolerance))
        return found if found or tolerance else ["its bytes alone"]

    def finish(self) -> None:
        """All has been read: what is still expected is missing."""
        while self._window:
            self._forget()


def _differences(path: str, there: Any, here: Any, tolerance: float) -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in dict.fromkeys((*here, *there)):
            below = f"{path}.{name}" if path else str(name)
            if name not in there or name not in here:
                yield f"{below}: only {'computed' if name in here else 'published'}"
            else:
                yield from _differences(below, there[name], here[name], tolerance)
    elif there != here and not (
        _is_number(there) and _is_number(here) and math.isclose(there, here, rel_tol=tolerance)
    ):
        yield f"{path}: published {there!r}, computed {here!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
