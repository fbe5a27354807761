"""Codecs before their first record: the registry reached, the schema of the forecasts registered."""

import asyncio
import time

import structlog

from streamer.codecs import Codec
from streamer.codecs.registry import RegistryError
from streamer.errors import StreamerError
from streamer.service.waiting import set_within

log = structlog.get_logger(__name__)

_DELAY, _LONGEST_DELAY = 0.2, 5.0


async def start_codec(codec: Codec, topic: str | None, limit: float, stop: asyncio.Event) -> None:
    """Start a codec that has something to start, and wait for its registry at most `limit` seconds, or until `stop`.

    topic: that of the forecasts where it encodes, None where it decodes. RegistryError names what is away; ConfigError,
    at once, where no wait would mend it.
    """
    start = getattr(codec, "start", None)
    deadline, delay = time.monotonic() + limit, _DELAY
    while start is not None and not stop.is_set():
        try:
            return await asyncio.to_thread(start, topic)
        except RegistryError as error:
            if time.monotonic() + delay > deadline:
                raise
            log.warning("waiting for the schema registry", error=str(error))
            await set_within(stop, delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        except StreamerError:
            raise
        except Exception as error:
            raise StreamerError(f"codec {type(codec).__name__} cannot be started: {error!r}") from error
