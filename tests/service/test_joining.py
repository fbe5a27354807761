"""A rejoin that never ends is noticed; one that waits for its broker is left alone."""

import asyncio
import time
from collections.abc import Callable

import pytest

from streamer.service.joining import StuckJoinError, watch

LIMIT = 0.1


class Broker:
    """Answers as it is told, and counts how often it was asked."""

    def __init__(self, answer: Callable[[int], bool]) -> None:
        self.asked = 0
        self._answer = answer

    async def answers(self) -> bool:
        self.asked += 1
        return self._answer(self.asked)


async def test_a_group_that_assigns_nothing_while_the_broker_answers_is_an_error() -> None:
    with pytest.raises(StuckJoinError, match=r"assigned nothing for 0\.1 s"):
        await watch(lambda: True, Broker(lambda _: True).answers, LIMIT)


async def goes_on(is_joining: Callable[[], bool], broker: Broker, enough: Callable[[], bool]) -> None:
    """Watch until there have been looks enough; the watch must not have ended by then."""
    watching = asyncio.create_task(watch(is_joining, broker.answers, LIMIT))
    while not enough():
        assert not watching.done()
        await asyncio.sleep(0)
    watching.cancel()


@pytest.mark.parametrize(
    "answer", [lambda _: False, lambda asked: asked % 5 != 0], ids=["the broker is away", "the broker comes and goes"]
)
async def test_a_broker_that_is_away_is_waited_for(answer: Callable[[int], bool]) -> None:
    broker = Broker(answer)
    await goes_on(lambda: True, broker, lambda: broker.asked >= 50)


async def test_a_process_that_stood_still_was_not_joining_all_along() -> None:
    """Its clock says so, but nobody could have assigned it anything."""

    def answer(asked: int) -> bool:
        if asked == 2:
            time.sleep(LIMIT)  # all stands still: the event loop too
        return asked % 5 != 0

    broker = Broker(answer)
    await goes_on(lambda: True, broker, lambda: broker.asked >= 10)


async def test_a_member_with_an_assignment_is_not_watched() -> None:
    looks: list[None] = []

    def is_joining() -> bool:
        looks.append(None)
        return False

    await goes_on(is_joining, Broker(lambda _: True), lambda: len(looks) >= 50)
