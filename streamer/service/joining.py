"""A watch over the way into the group, of which aiokafka gives no sign when it never ends (its issue 1154)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from streamer.errors import BrokerError

_LOOKS = 10  # within the limit


class StuckJoinError(BrokerError):
    """The broker answers, and the group has given us no assignment for too long."""


async def watch(is_joining: Callable[[], bool], answers: Callable[[], Awaitable[bool]], limit: float) -> NoReturn:
    """Raise StuckJoinError once there has been no assignment for `limit` seconds in which the broker was there.

    is_joining: whether there is none. answers: whether the broker is there; one that is away is waited for.
    """
    since = None
    while True:
        await asyncio.sleep(limit / _LOOKS)
        if not is_joining() or not await answers():
            since = None
            continue
        now = time.monotonic()
        since = since or now
        if now - since >= limit:
            raise StuckJoinError(f"the broker answers, but the group has assigned nothing for {limit:g} s")
