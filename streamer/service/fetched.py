"""The records of one fetch, worked off in batches of bounded time, with turns for the rest of the process between."""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice

from aiokafka import ConsumerRecord

_SLICE_SECONDS = 0.005  # of ticks between two turns of all else
_BATCH_SECONDS = 0.25  # of ticks in one transaction, whose round trips are some ms: a wide vector alone may take 20


class Fetched:
    """at: when the fetch returned (monotonic seconds)."""

    def __init__(self, records: list[ConsumerRecord], at: float) -> None:
        self.records = records
        self.at = at
        self._done = 0

    @property
    def is_done(self) -> bool:
        """Whether all records are worked off."""
        return self._done == len(self.records)

    async def batch(
        self, process: Callable[[Iterable[ConsumerRecord]], Iterable[int]], is_to_end: Callable[[], bool]
    ) -> list[float]:
        """Let `process` take records until their time is up, or the others' turn has brought that it `is_to_end`.

        It says of how many, some at a time. There is at least one. Returns the seconds that each took.
        """
        spent: list[float] = []
        total, turn = 0.0, time.perf_counter()
        before = turn
        for count in process(islice(self.records, self._done, None)):
            now = time.perf_counter()
            spent += [(now - before) / count] * count
            total += now - before
            if total > _BATCH_SECONDS:
                break
            if now - turn > _SLICE_SECONDS:
                await asyncio.sleep(0)
                if is_to_end():
                    break
                now = turn = time.perf_counter()
            before = now
        self._done += len(spent)
        return spent
