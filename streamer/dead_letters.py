"""Dead letters: the headers that say where a message came from and why it is no tick, written and read.

Their names are those of KIP-1034 (dead-letter queues of Kafka Streams), whose tools then know them; what the KIP has no
name for begins with `streamer.original.`. A message may bring headers of the same names, if it was sent again from the
dead letters: ours stand behind them, `REASON` first, and the last of a name counts, as for `Headers.lastHeader` of
Kafka's Java client.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import ConsumerRecord

Header = tuple[str, bytes]

REASON = "__streams.errors.exception"
DETAIL = "__streams.errors.message"
STACKTRACE = "__streams.errors.stacktrace"
TOPIC = "__streams.errors.topic"
PARTITION = "__streams.errors.partition"
OFFSET = "__streams.errors.offset"
TIMESTAMP = "streamer.original.timestamp"
"""The original record's, in ms: the dead letter's own is when it was sent, or retention would delete it at once."""

HEADERS = "streamer.original.headers.count"
"""How many headers the message had that its dead letter has no room for."""


def length_of(part: str) -> str:
    """Name of the header with the full length of `part`, key or value, of which the dead letter has the beginning."""
    return f"streamer.original.{part}.length"


def sha256_of(part: str) -> str:
    """Name of the header with its SHA-256."""
    return f"streamer.original.{part}.sha256"


def plain(data: bytes | None) -> str | None:
    """Bytes as text, whatever they are."""
    return None if data is None else data.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of the dead-letter topic as its headers explain it; what one of somebody else lacks is None.

    record: as it was read. topic, partition, offset: of the original. time: of the dead letter, ms.
    """

    record: ConsumerRecord
    reason: str | None
    detail: str | None
    topic: str | None
    partition: str | None
    offset: str | None

    @classmethod
    def of(cls, record: ConsumerRecord) -> Self:
        """Read `record`."""
        headers = dict(record.headers)
        names = (REASON, DETAIL, TOPIC, PARTITION, OFFSET)
        return cls(record, *(plain(headers.get(name)) for name in names))

    @property
    def source(self) -> str:
        """Place of the original, `prices-0-17`."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @property
    def place(self) -> str:
        """Its own place, `dead-letters-0-3`."""
        return f"{self.record.topic}-{self.record.partition}-{self.record.offset}"

    @property
    def length(self) -> int | None:
        """Bytes of the original's value; None where it had none."""
        full = _number(plain(_behind_reason(self.record.headers).get(length_of("value"))))
        if full is not None:
            return full
        return None if self.record.value is None else len(self.record.value)

    @property
    def is_cut(self) -> bool:
        """Whether it has the beginning of the message only."""
        return self.length != (None if self.record.value is None else len(self.record.value))

    def as_json(self) -> dict[str, Any]:
        """Its fields as JSON values, the original's bytes left out."""
        return {
            "dead_letter": self.place,
            "topic": self.topic,
            "partition": _number(self.partition),
            "offset": _number(self.offset),
            "key": plain(self.record.key),
            "reason": self.reason,
            "detail": self.detail,
            "bytes": self.length,
        }


def _behind_reason(headers: Iterable[Header]) -> dict[str, bytes]:
    """Those of this dead letter alone: a whole message may have brought the lengths of one that was cut."""
    found: dict[str, bytes] = {}
    for name, data in headers:
        found = {} if name == REASON else found
        found[name] = data
    return found


def _number(text: str | None) -> int | None:
    """A whole number of 64 bits as a header has it; None for anything else that somebody wrote there."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 else None
