"""Streams that one model serves, without a broker: a tick of each at a time, from the record to the forecast's."""

import time
from collections.abc import Callable, Iterable, Sequence

from aiokafka import ConsumerRecord

from streamer.config import load
from streamer.core.catchup import RING
from streamer.model.forecaster import LstmForecaster
from streamer.service import wiring
from streamer.service.burst import process_all
from streamer.service.partition import Batch, Partition
from tests.bench._drive import messages
from tests.e2e.feeding import START, Message

_BEFORE = 5  # ticks of each stream before the model serves
_MINUTE = 60_000

Way = Callable[[Partition, Sequence[ConsumerRecord], Batch], None]


def one_by_one(partition: Partition, records: Sequence[ConsumerRecord], batch: Batch) -> None:
    """Each record by itself."""
    for record in records:
        partition.process(record, batch)


def together(partition: Partition, records: Sequence[ConsumerRecord], batch: Batch) -> None:
    """As the daemon does it."""
    for _ in process_all(partition, records, batch):
        pass


class Volleys:
    """Some streams of so many symbols over some partitions, whose records are taken in in one `way`."""

    def __init__(self, model: LstmForecaster, streams: int, symbols: int, partitions: int, way: Way) -> None:
        given = {"kafka.bootstrap_servers": "127.0.0.1:9092", "retrain": {"every": 0}, "feed.change": "log_return"}
        settings = wiring.partition_settings(load(None, {}, given))
        self._keys: list[bytes | None] = [b"k%d" % number for number in range(streams)]
        self._symbols, self._way, self._row = symbols, way, 0
        self._partitions = [Partition("prices", number, settings, lambda *_: model) for number in range(partitions)]
        for _ in range(_BEFORE):
            self.seconds()
        for partition in self._partitions:
            for stream in partition.streams.values():
                ready = stream.engine.catch_up(model, RING)
                ready.advance(_BEFORE)
                stream.engine.swap(ready)

    def seconds(self) -> float:
        """What the next tick of each stream takes, for a tick."""
        work = messages(self._symbols, 1, self._row, self._keys, len(self._partitions))
        records = [list(self._records(work, partition.number)) for partition in self._partitions]
        self._row += 1
        began = time.perf_counter()
        for partition, some in zip(self._partitions, records, strict=True):
            self._way(partition, some, Batch(0))
        return (time.perf_counter() - began) / len(work)

    def _records(self, work: Iterable[Message], partition: int) -> Iterable[ConsumerRecord]:
        at = START + self._row * _MINUTE
        for message in work:
            if message.partition == partition:
                key, value = message.key or b"", message.value or b""
                yield ConsumerRecord(
                    "prices", partition, self._row, at, 0, key, value, None, len(key), len(value), message.headers
                )
