"""How the records of a fetch are worked off."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streamer.service import fetched as module
from streamer.service.fetched import Fetched
from tests.service.test_read_back import record
from tests.service.test_worker import Kafka


def fetched(count: int) -> Fetched:
    return Fetched([record(offset, "a") for offset in range(5, 5 + count)], at=0.0)


def one_by_one(take: Callable[[ConsumerRecord], Any]) -> Callable[[Iterable[ConsumerRecord]], Iterator[int]]:
    """Lets `take` have the records."""

    def process(records: Iterable[ConsumerRecord]) -> Iterator[int]:
        for each in records:
            take(each)
            yield 1

    return process


def noting(taken: list[int]) -> Callable[[ConsumerRecord], None]:
    """Takes a record's offset down."""
    return lambda each: taken.append(each.offset)


async def test_some_records_that_were_taken_at_once_share_their_time() -> None:
    work = fetched(5)
    spent = await work.batch(lambda records: iter([2, 3]), lambda: False)
    assert len(spent) == 5
    assert (spent[0], spent[2], spent[3]) == (spent[1], spent[3], spent[4])
    assert work.is_done


async def test_while_there_is_time_all_of_them_are_one_batch() -> None:
    work, taken = fetched(100), list[int]()
    spent = await work.batch(one_by_one(noting(taken)), lambda: True)
    assert taken == list(range(5, 105))
    assert len(spent) == 100
    assert work.is_done


async def test_a_batch_ends_when_its_time_is_up_and_the_next_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a backlog of wide vectors would keep stop, swap and commit waiting for as long as it takes."""
    monkeypatch.setattr(module, "_BATCH_SECONDS", -1.0)
    work, batches = fetched(3), list[list[int]]()
    while not work.is_done:
        taken: list[int] = []
        await work.batch(one_by_one(noting(taken)), lambda: False)
        batches.append(taken)
    assert batches == [[5], [6], [7]]


async def test_all_else_has_its_turn_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLICE_SECONDS", -1.0)
    happened: list[Any] = []

    async def other() -> None:
        while True:
            happened.append("other")
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await fetched(3).batch(one_by_one(lambda each: happened.append(each.offset)), lambda: False)
    task.cancel()
    assert happened == [5, "other", 6, "other", 7, "other"]


async def test_it_ends_with_the_record_in_hand_once_it_is_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLICE_SECONDS", -1.0)
    work, taken = fetched(9), list[int]()
    spent = await work.batch(one_by_one(lambda each: taken.append(each.offset)), lambda: len(taken) == 2)
    assert (taken, len(spent), work.is_done) == ([5, 6], 2, False)


class Committed(Kafka):
    """Notes up to which offset each batch was committed, and how many fetches there were. stop_at: offset."""

    def __init__(self, *batches: list[ConsumerRecord], stop_at: int | None = None) -> None:
        super().__init__(*batches)
        self.offsets_committed: list[int] = []
        self.fetches = 0
        self._stop_at = stop_at

    async def getmany(self, *arguments: Any, **options: Any) -> Any:
        self.fetches += 1
        return await super().getmany(*arguments, **options)

    async def commit(self, records: Any, offset: Any) -> None:
        await super().commit(records, offset)
        self.offsets_committed.append(offset[1].offset)
        if offset[1].offset == self._stop_at:
            self.worker.stop()


async def test_what_is_left_of_a_fetch_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_SECONDS", -1.0)
    kafka = Committed([record(offset, "a") for offset in (5, 6, 7)], [record(8, "a")])
    await kafka.worker.run()
    assert list(dict.fromkeys(kafka.offsets_committed)) == [6, 7, 8, 9]
    assert kafka.fetches == 3  # the last finds nothing, and ends it


async def test_a_worker_that_is_stopped_leaves_the_rest_of_its_fetch_to_the_next_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BATCH_SECONDS", -1.0)
    kafka = Committed([record(offset, "a") for offset in (5, 6, 7)], stop_at=6)
    await kafka.worker.run()
    assert set(kafka.offsets_committed) == {6}
    assert set(kafka.worker.partition.streams) == {"a"}
