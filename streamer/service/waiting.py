"""A pause that ends when it is of no more use."""

import asyncio
import contextlib


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return once `event` is set, or after so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
