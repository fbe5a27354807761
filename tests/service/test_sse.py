"""Server-sent events over a real connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from streamer.service import http, sse
from streamer.service.health import Health
from streamer.service.http import HttpServer
from streamer.service.metrics import Metrics
from streamer.service.sse import Channel
from tests.support import eventually

Event = dict[str, str]


class Shown:
    """What there is to see: `big`, which hardly changes, and `small`, which may."""

    def __init__(self) -> None:
        self.small = 0
        self.padding = ""
        self.asked: list[str | None] = []

    def __call__(self, stream: str | None) -> Mapping[str, Mapping[str, Any]]:
        if stream == "nobody":
            raise KeyError(stream)
        self.asked.append(stream)
        return {"big": {"name": "<b>\n", "padding": self.padding}, "small": {"value": self.small}}


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "INTERVAL", 0.01)


@pytest.fixture
async def server(shown: Shown) -> AsyncIterator[HttpServer]:
    channel = Channel(shown, most=2)
    made = HttpServer("127.0.0.1", 0, Metrics(CollectorRegistry()), Health(60), channels={"events": channel})
    yield made
    await made.stop(1)


@pytest.fixture
async def url(server: HttpServer) -> str:
    return f"http://127.0.0.1:{await server.start()}/api/v1/events"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def next_event(response: aiohttp.ClientResponse) -> Event:
    """The fields of the next event; none where the stream has ended."""
    fields: Event = {}
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if not text and fields:
            return fields
        name, _, value = text.partition(": ")
        fields[name] = value
    return {}


async def test_all_is_told_at_once_and_then_what_has_changed(
    url: str, client: aiohttp.ClientSession, shown: Shown
) -> None:
    async with client.get(url, params={"stream": "s"}) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert await next_event(response) == {"retry": str(sse.RETRY)}
        first = [await next_event(response) for _ in range(3)]
        assert [(each["id"], each["event"]) for each in first] == [("1", "big"), ("2", "small"), ("3", "beat")]
        assert json.loads(first[0]["data"])["name"] == "<b>\n"
        for value in (1, 2):
            shown.small = value
            event = await next_event(response)
            assert (event["id"], event["event"], json.loads(event["data"])) == (
                str(3 + value),
                "small",
                {"value": value},
            )
    assert set(shown.asked) == {"s"}


async def test_a_line_on_which_nothing_happens_shows_that_it_is_alive(
    url: str, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "BEAT", 0.02)
    async with client.get(url) as response:
        events = [(await next_event(response)).get("event") for _ in range(6)]
    assert events == [None, "big", "small", "beat", "beat", "beat"]


async def test_a_stream_outlives_the_time_that_an_answer_has(
    url: str, client: aiohttp.ClientSession, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_TIMEOUT", 0.01)
    async with client.get(url) as response:
        for value in range(1, 20):
            shown.small = value
            while (event := await next_event(response)).get("event") != "small" or event[
                "data"
            ] != f'{{"value":{value}}}':
                assert event, "it has ended"


async def test_one_too_many_is_refused_and_has_room_once_another_goes(
    url: str, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await client.get(url), await client.get(url)
    async with client.get(url) as third:
        assert third.status == 503
        assert "2 clients follow already" in (await third.json())["error"]
    first.close()

    async def has_room() -> bool:
        async with client.get(url) as again:
            return again.status == 200

    await eventually(has_room)
    second.close()
    assert not caplog.records, "to go is no error"


async def test_a_client_that_does_not_read_is_dropped(
    url: str, client: aiohttp.ClientSession, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SEND_TIMEOUT", 0.2)
    shown.padding = "x" * 2**25  # beyond all buffers
    unread = [await client.get(url) for _ in range(2)]

    async def has_room() -> bool:
        async with client.get(url) as again:
            return again.status == 200

    await eventually(has_room)
    for each in unread:
        each.close()


async def test_a_parameter_that_there_is_not_is_refused_before_anything_streams(
    url: str, client: aiohttp.ClientSession
) -> None:
    for asked, status in (({"stream": "nobody"}, 404), ({"streams": "s"}, 400)):
        async with client.get(url, params=asked) as response:
            assert response.status == status
            assert "error" in await response.json()


async def test_the_stop_ends_every_stream_in_good_order_and_waits_for_none(
    url: str, client: aiohttp.ClientSession, server: HttpServer
) -> None:
    async with client.get(url) as response:
        await next_event(response)
        async with asyncio.timeout(10):
            await server.stop(60)
        while await next_event(response):
            pass
