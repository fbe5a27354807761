"""Transactions of a real broker that begin before there is anything to put in them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamer.config import load
from streamer.service.broker import Broker
from streamer.service.records import OutputRecord
from streamer.service.sink import FencedError, Sink
from tests.e2e.conftest import Topics
from tests.support import eventually, read_all


@asynccontextmanager
async def owners(bootstrap: str, made: dict[str, str]) -> AsyncIterator[tuple[Sink, Sink]]:
    """Two sinks of one partition; the second fences the first once it starts."""
    settings = load(None, {}, {"kafka": {"bootstrap_servers": bootstrap, "topics": made}}).kafka
    broker, tp = Broker(settings, input_span=0), TopicPartition(made["prices"], 0)
    await broker.connect(asyncio.Event())
    await broker.check_topics()
    first, second = (broker.sink(tp, AsyncMock()) for _ in range(2))
    await first.start()
    try:
        yield first, second
    finally:
        for each in (first, second):
            await each.stop()
        await broker.close()
        gc.collect()  # what nobody asked a fenced producer for is said now, and not in the middle of anything


@pytest.mark.parametrize("when", ["before", "after"])
async def test_who_is_fenced_before_or_after_it_has_begun_is_told_so(bootstrap: str, topics: Topics, when: str) -> None:
    made = {role: await topics.create(role) for role in ("prices", "forecasts", "state", "dead_letters")}
    record = OutputRecord(made["forecasts"], b"k", b"v")
    offset = (TopicPartition(made["prices"], 0), OffsetAndMetadata(1, ""))
    async with owners(bootstrap, made) as (first, second):
        if when == "before":
            await second.start()
        await first.open()
        if when == "before":
            ended = cast(Any, first)._producer._txn_manager.wait_for_transaction_end()
            await eventually(ended.done)  # the broker has answered while the ticks were worked out
        if when == "after":
            await second.start()
        with pytest.raises(FencedError):
            await first.commit([record], offset)
        await second.open()
        await second.commit([record], offset)
    assert [each.value for each in await read_all(bootstrap, made["forecasts"])] == [b"v"]


async def test_what_was_begun_need_not_have_a_record(bootstrap: str, topics: Topics) -> None:
    """A batch may be of duplicates alone."""
    made = {role: await topics.create(role) for role in ("prices", "forecasts", "state", "dead_letters")}
    tp = TopicPartition(made["prices"], 0)
    async with owners(bootstrap, made) as (first, _):
        for number in range(2):
            await first.open()
            await first.commit([], (tp, OffsetAndMetadata(1 + number, "")))
        await first.open()
        await first.commit([OutputRecord(made["forecasts"], b"k", b"v")], (tp, OffsetAndMetadata(3, "")))
    assert [each.value for each in await read_all(bootstrap, made["forecasts"])] == [b"v"]
