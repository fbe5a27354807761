"""The rival of what the daemon does: aiokafka alone, which consumes, produces what it read, and commits.

    python -m tests.bench._bare BOOTSTRAP INPUT OUTPUT DELIVERY

As the daemon does: exactly once a batch is a transaction with its offset, at least once it is acknowledged first.
"""

import asyncio
import logging
import sys
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

_MOST = 500  # records of a batch
_RETRY_BACKOFF_MS = 5  # see streamer.service.sink: at 100, Kafka 4's answer to quick transactions costs that much


async def serve(bootstrap: str, source: str, target: str, delivery: str) -> None:
    """Pass on whatever comes, until killed."""
    group = f"{target}-bare"
    exactly_once = {"transactional_id": group} if delivery == "exactly_once" else {}
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        retry_backoff_ms=_RETRY_BACKOFF_MS,
        **exactly_once,
    )
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with producer, consumer:
        while True:
            batches = await consumer.getmany(timeout_ms=500, max_records=_MOST)
            offsets = {tp: records[-1].offset + 1 for tp, records in batches.items()}
            records = list(chain.from_iterable(batches.values()))
            if not records:
                continue
            if exactly_once:
                async with producer.transaction():
                    await _send(producer, target, records)
                    await producer.send_offsets_to_transaction(offsets, group)
            else:
                await asyncio.gather(*await _send(producer, target, records))
                await consumer.commit(offsets)


async def _send(producer: AIOKafkaProducer, target: str, records: list[Any]) -> list[asyncio.Future[Any]]:
    return [await producer.send(target, record.value, partition=record.partition) for record in records]


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it tells each of those retries
    asyncio.run(serve(*sys.argv[1:]))
