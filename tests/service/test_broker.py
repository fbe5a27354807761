"""What of aiokafka has to be kept from the daemon."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.service.broker import stop_consumer


class Consumer:
    """Stops as aiokafka's consumer does while the broker is away: a fetch that it cancels cancels its caller."""

    def __init__(self) -> None:
        self.is_connected = True
        self._client = SimpleNamespace(close=self._disconnect)

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    async def _disconnect(self) -> None:
        self.is_connected = False


class SlowConsumer(Consumer):
    async def stop(self) -> None:
        await asyncio.sleep(3600)


async def test_a_fetch_that_is_cancelled_does_not_cancel_who_stops_the_consumer() -> None:
    consumer: Any = Consumer()
    await stop_consumer(consumer)
    assert not consumer.is_connected


async def test_whoever_cancels_the_stop_is_heard() -> None:
    consumer: Any = SlowConsumer()
    stopping = asyncio.create_task(stop_consumer(consumer))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_a_time_limit_on_the_stop_holds() -> None:
    consumer: Any = SlowConsumer()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stop_consumer(consumer)
