"""Records of many streams at once: what their models have in common is worked out for all of them together."""

from collections.abc import Iterable, Iterator, Sequence

from aiokafka import ConsumerRecord

from streamer.core.ahead import step_ahead
from streamer.core.engine import ForecastEngine
from streamer.core.tick import Tick
from streamer.service.partition import Batch, Decoded, Partition

_TOGETHER = 32  # streams: of more, no tick costs less, and the rest of the process has to wait
_PRICES = 512  # of all their ticks: so is it of wide vectors, sooner


def process_all(partition: Partition, records: Iterable[ConsumerRecord], batch: Batch) -> Iterator[int]:
    """Take in records, each as `Partition.process` does; yields of how many that was, some at a time.

    Models that are alike step ahead together, over one tick each of different streams.
    """
    some: list[tuple[ConsumerRecord, Decoded]] = []
    names: set[str] = set()
    prices = 0
    for record in records:
        decoded = partition.decoded(record)
        name, width = _named(decoded)
        if name in names or len(some) == _TOGETHER or (some and prices + width > _PRICES):
            yield _process(partition, some, batch)
            some, names, prices = [], set(), 0
        some.append((record, decoded))
        names.add(name)
        prices += width
    if some:
        yield _process(partition, some, batch)


def _named(decoded: Decoded) -> tuple[str, int]:
    """Name of the stream of a record, none where it is refused, and the number of its prices."""
    if isinstance(decoded, Exception):
        return "", 0
    name, item = decoded
    return name, len(item.prices) if isinstance(item, Tick) else 0


def _process(partition: Partition, some: Sequence[tuple[ConsumerRecord, Decoded]], batch: Batch) -> int:
    if len(some) > 1:
        step_ahead(_ticks(partition, [decoded for _, decoded in some]))
    for record, decoded in some:
        partition.take(record, decoded, batch)
    return len(some)


def _ticks(partition: Partition, items: Iterable[Decoded]) -> Iterator[tuple[ForecastEngine, Tick]]:
    """Ticks that go straight into the engine of a stream, and that."""
    for decoded in items:
        if not isinstance(decoded, Exception) and isinstance(decoded[1], Tick):
            stream = partition.streams.get(decoded[0])
            if stream is not None and stream.assembly is None:
                yield stream.engine, decoded[1]
