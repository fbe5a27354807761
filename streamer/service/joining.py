"""A watch over the way into the group, of which aiokafka gives no sign when it never ends (its issue 1154)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from streamer.errors import BrokerError

_LOOKS = 10  # within the limit


class StuckJoinError(BrokerError):
    """The broker answers, and the group has given us no assignment for too long."""


async def watch(is_joining: Callable[[], bool], answers: Callable[[], Awaitable[bool]], limit: float) -> NoReturn:
    """Raise StuckJoinError once there has been no assignment for `limit` seconds in which the broker was there.

    is_joining: whether there is none. answers: whether the broker is there; one that is away is waited for. Looks are
    counted, for by the clock a process that stood still would have been joining all along.
    """
    looks = 0
    while looks < _LOOKS:
        await asyncio.sleep(limit / _LOOKS)
        looks = looks + 1 if is_joining() and await answers() else 0
    raise StuckJoinError(f"the broker answers, but the group has assigned nothing for {limit:g} s")
