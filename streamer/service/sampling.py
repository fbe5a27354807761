"""The newest messages of a topic, looked at without a group."""

from aiokafka import ConsumerRecord, TopicPartition

from streamer.service.broker import Broker

_WIDER = 10


async def newest(broker: Broker, topic: str, partitions: int, count: int) -> list[ConsumerRecord]:
    """The newest `count` committed records of all partitions, or as many as there are, oldest first."""
    found: list[ConsumerRecord] = []
    for number in range(partitions):
        found += await _newest(broker, TopicPartition(topic, number), count)
    found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    return found[-count:]


async def _newest(broker: Broker, tp: TopicPartition, count: int) -> list[ConsumerRecord]:
    first, end = await broker.offsets(tp)
    span = count
    while True:  # some offsets are those of transaction markers, or of records that compaction took
        start = max(first, end - span)
        records = [record async for batch in broker.read(tp, start, end) for record in batch]
        if len(records) >= count or start == first:
            return records[-count:]
        span *= _WIDER
