"""Server-sent events (WHATWG HTML, 9.2): what has changed, at most once a second to each client."""

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from streamer.service.waiting import set_within

MAX_CLIENTS: Final = 32
"""A wall of screens. Each costs the event loop up to a millisecond a second; whoever comes beyond it may poll."""

SEND_TIMEOUT: Final = 10.0
"""Seconds that a client has to take what fits no buffer any more; then it is dropped, and may begin anew."""

INTERVAL: Final = 1.0
"""Seconds between two looks at what has changed; what changes with the time alone is seen then, too."""

BEAT: Final = 10.0
"""Seconds after which the time of this machine is sent, by which a client sees that the line is alive."""

RETRY: Final = 2_000
"""Milliseconds after which a client tries again."""

Show = Callable[..., Mapping[str, Mapping[str, Any]]]
"""Gives the events of now, by name. Parameters and KeyError as a View's."""


class Channel:
    """One address that streams: first all that `show` gives, then what differs from what was sent before."""

    def __init__(self, show: Show, most: int = MAX_CLIENTS) -> None:
        self.parameters = tuple(inspect.signature(show).parameters)
        self._show = show
        self._most = most
        self._clients = 0
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End all streams at once."""
        self._closed.set()

    async def serve(self, request: web.Request, parameters: Mapping[str, str | None]) -> web.StreamResponse:
        """Stream until either side ends it."""
        if self._closed.is_set() or self._clients >= self._most:
            raise web.HTTPServiceUnavailable(text=f"{self._most} clients follow already; ask again from time to time")
        first = self._show(**parameters)
        self._clients += 1
        try:
            return await self._stream(request, parameters, first)
        finally:
            self._clients -= 1

    async def _stream(
        self, request: web.Request, parameters: Mapping[str, str | None], first: Mapping[str, Mapping[str, Any]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"})
        try:
            await response.prepare(request)
            await _send(response, f"retry: {RETRY}\n\n")
            await self._follow(request, response, parameters, first)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it has gone
        return response

    async def _follow(
        self,
        request: web.Request,
        response: web.StreamResponse,
        parameters: Mapping[str, str | None],
        events: Mapping[str, Mapping[str, Any]],
    ) -> None:
        sent: dict[str, str] = {}
        number, loop, beat_at = 0, asyncio.get_running_loop(), 0.0
        while not self._closed.is_set() and not _has_gone(request):
            told = {name: json.dumps(body, separators=(",", ":"), allow_nan=False) for name, body in events.items()}
            news = {name: data for name, data in told.items() if sent.get(name) != data}
            if loop.time() >= beat_at:
                news["beat"] = json.dumps({"now": time.time_ns() // 1_000_000})
                beat_at = loop.time() + BEAT
            for name, data in news.items():
                number += 1
                await _send(response, f"id: {number}\nevent: {name}\ndata: {data}\n\n")
            sent = told
            await set_within(self._closed, INTERVAL)
            events = self._show(**parameters)


def _has_gone(request: web.Request) -> bool:
    """Seen each second: its place is free at once for the next that it asks for."""
    return request.transport is None or request.transport.is_closing()


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await response.write(text.encode())
