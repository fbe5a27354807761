"""Records of many streams at once: what their models have in common is worked out for all of them together."""

from collections.abc import Iterable, Iterator, Sequence

from aiokafka import ConsumerRecord

from streamer.core.ahead import step_ahead
from streamer.core.engine import ForecastEngine
from streamer.core.tick import Tick
from streamer.service.partition import Batch, Decoded, Partition

_TOGETHER = 32  # streams: of more, no tick costs less, and the rest of the process has to wait


def process_all(partition: Partition, records: Iterable[ConsumerRecord], batch: Batch) -> Iterator[int]:
    """Take in records, each as `Partition.process` does; yields of how many that was, some at a time.

    Models that are alike step ahead together, over one tick each of different streams.
    """
    some: list[tuple[ConsumerRecord, Decoded]] = []
    names: set[str] = set()
    for record in records:
        decoded = partition.decoded(record)
        name = None if isinstance(decoded, Exception) else decoded[0]
        if name in names or len(some) == _TOGETHER:
            yield _process(partition, some, batch)
            some, names = [], set()
        some.append((record, decoded))
        if name is not None:
            names.add(name)
    if some:
        yield _process(partition, some, batch)


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
