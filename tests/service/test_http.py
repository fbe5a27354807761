import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from yarl import URL

from streamer.errors import ConfigError, ExitCode, StreamerError
from streamer.service import http
from streamer.service.health import Health
from streamer.service.http import HttpServer
from streamer.service.metrics import Metrics
from tests.support import eventually

TOKEN = "correct-horse"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Retrain:
    """The action of an operator: notes what it was asked for, and knows one stream."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    async def __call__(self, stream: str | None) -> Mapping[str, Any]:
        known = {None: "all", "prices-0": "one"}
        answer = {"requested": known[stream]}
        self.asked.append(stream)
        return answer


Start = Callable[..., Awaitable[str]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stall_after=60, clock=clock)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def retrain() -> Retrain:
    return Retrain()


@pytest.fixture
async def start(metrics: Metrics, health: Health, retrain: Retrain) -> AsyncIterator[Start]:
    """Starts a server on a free port and returns its address; stops it after the test."""
    servers: list[HttpServer] = []

    async def start(token: str | None = TOKEN, **actions: http.Action) -> str:
        secret = None if token is None else SecretStr(token)
        views = {"streams": lambda: {"prices-0": {"model": "m1"}}}
        server = HttpServer("127.0.0.1", 0, metrics, health, secret, {"retrain": retrain} | actions, views)
        servers.append(server)
        return f"http://127.0.0.1:{await server.start()}"

    yield start
    for server in servers:
        await server.stop(1)


@pytest.fixture
async def url(start: Start) -> str:
    return await start()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_free_port_is_found_and_told(url: str, client: aiohttp.ClientSession) -> None:
    assert port_of(url) > 0
    async with client.get(f"{url}/livez") as response:
        assert response.status == 200


async def test_a_view_is_json_for_everybody_and_the_page_links_to_it(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{url}/api/v1/streams") as response:
        assert (response.status, await response.json()) == (200, {"prices-0": {"model": "m1"}})
        assert response.headers["Cache-Control"] == "no-store"
    async with client.get(url) as response:
        assert 'href="api/v1/streams"' in await response.text()


async def test_a_view_takes_the_parameters_that_it_names_and_says_what_there_is_not(
    metrics: Metrics, health: Health, client: aiohttp.ClientSession
) -> None:
    def one(stream: str | None) -> Mapping[str, Any]:
        return {"found": {None: "any", "a/b": "one"}[stream]}

    def named(stream: str | None) -> Mapping[str, Any]:
        raise KeyError(stream)

    server = HttpServer("127.0.0.1", 0, metrics, health, views={"one": one, "named": named})
    address = f"http://127.0.0.1:{await server.start()}/api/v1"
    answers = []
    for asked in ({}, {"stream": "a/b"}, {"stream": "<b>"}, {"streams": "x"}):
        async with client.get(f"{address}/one", params=asked) as response:
            answers.append((response.status, await response.json()))
    async with client.get(f"{address}/named") as response:
        answers.append((response.status, await response.json()))
    await server.stop(1)
    assert answers == [
        (200, {"found": "any"}),
        (200, {"found": "one"}),
        (404, {"error": "there is no stream '<b>'"}),
        (400, {"error": "unknown parameter 'streams'; known: stream"}),
        (400, {"error": "the parameter 'stream' is missing"}),
    ]


# Metrics


class OneScore:
    symbols = ("AAPL",)
    forecasters = ("served", "persistence")
    rmse = np.array([[1.0, 2.0]])
    squared_error_total = np.array([[10.0, 40.0]])
    scored_total = np.array([10])
    coverage = np.array([0.9])


async def test_metrics_are_served_with_the_scores_of_now(
    url: str, client: aiohttp.ClientSession, metrics: Metrics
) -> None:
    metrics.watch("prices-0", OneScore())
    async with client.get(f"{url}/metrics") as response:
        text = await response.text()
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'streamer_skill_ratio{stream="prices-0",symbol="AAPL"} 0.5' in text.splitlines()


async def test_openmetrics_is_served_to_whom_asks_for_it(url: str, client: aiohttp.ClientSession) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    async with client.get(f"{url}/metrics", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        text = await response.text()
    assert text.endswith("# EOF\n")
    assert "# TYPE streamer_build info\n" in text


async def test_a_version_that_is_none_gets_plain_text(url: str, client: aiohttp.ClientSession) -> None:
    accept = "application/openmetrics-text;version=new"
    async with client.get(f"{url}/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain")


async def test_metrics_are_compressed_for_whom_takes_that(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert "streamer_build_info" in await response.text()


# Health


async def test_the_daemon_is_not_ready_before_it_says_so(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{url}/readyz") as response:
        assert response.status == 503
        assert await response.json() == {"ready": False, "checks": {}, "failing": []}


async def test_readiness_names_each_check_and_its_state(
    url: str, client: aiohttp.ClientSession, health: Health
) -> None:
    health.set("group", True, "joined")
    health.set("state", False, "restoring prices-0")
    async with client.get(f"{url}/readyz") as response:
        assert response.status == 503
        assert await response.json() == {
            "ready": False,
            "checks": {"group": "joined", "state": "restoring prices-0"},
            "failing": ["state"],
        }
    health.set("state", True, "restored")
    async with client.get(f"{url}/readyz") as response:
        assert response.status == 200
        assert (await response.json())["ready"] is True


async def test_a_process_without_progress_is_not_live(
    url: str, client: aiohttp.ClientSession, health: Health, clock: Clock
) -> None:
    async def status() -> int:
        async with client.get(f"{url}/livez") as response:
            return response.status

    clock.now += 60
    assert await status() == 200
    clock.now += 0.1
    assert await status() == 503
    health.progress()
    assert await status() == 200


async def test_a_check_costs_liveness_only_if_a_restart_could_mend_it(
    url: str, client: aiohttp.ClientSession, health: Health
) -> None:
    health.set("group", False, "not joined")
    async with client.get(f"{url}/livez") as response:
        assert response.status == 200
        assert list((await response.json())["checks"]) == ["progress"]
    health.set("consumer", False, "stuck", live=True)
    async with client.get(f"{url}/livez") as response:
        assert response.status == 503
        assert (await response.json())["failing"] == ["consumer"]


# Page, errors, headers


async def test_the_page_and_all_that_it_loads_are_ours_and_no_script_or_style_stands_in_it(
    url: str, client: aiohttp.ClientSession
) -> None:
    async with client.get(url) as response:
        page = await response.text()
        assert response.content_type == "text/html"
    assert "://" not in page, "the page names no outside address"
    assert not re.search(r"<style|<script(?! type=\"module\" src=)|\sstyle=|\son\w+=", page)
    loaded = re.findall(r'(?:src|href)="(page/[^"]+)"', page)
    types = []
    for path in loaded:
        async with client.get(f"{url}/{path}") as response:
            assert response.status == 200, path
            types.append(response.content_type)
    assert types == ["image/svg+xml", "text/css", "text/javascript"]
    for path in ("metrics", "livez", "readyz"):
        assert f'href="{path}"' in page


async def test_every_module_of_the_page_is_served_and_none_writes_html(url: str, client: aiohttp.ClientSession) -> None:
    """Names come from outside: what is set as text alone cannot become an element or a script."""
    left, seen = ["page.js"], set()
    while left:
        name = left.pop()
        async with client.get(f"{url}/page/{name}") as response:
            assert response.status == 200, name
            text = await response.text()
        seen.add(name)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
        left += [each for each in re.findall(r'from "\./([\w.]+)"', text) if each not in seen]
    assert seen == {"page.js", "list.js", "detail.js", "chart.js", "link.js", "text.js"}


async def test_nothing_beside_the_page_is_served(url: str, client: aiohttp.ClientSession) -> None:
    for path in ("page/", "page/nothing.js", "page/..%2fhttp.py", "page/index.html"):
        async with client.get(URL(f"{url}/{path}", encoded=True)) as response:
            assert response.status == 404, path


async def test_every_answer_has_the_security_headers_and_no_version(url: str, client: aiohttp.ClientSession) -> None:
    for path in ("/", "/page/page.js", "/metrics", "/livez", "/nowhere", "/-/retrain"):
        async with client.get(url + path) as response:
            headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "streamer"


async def test_errors_are_one_line_of_json(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{url}/nowhere") as response:
        assert response.status == 404
        assert await response.json() == {"error": "not found; / shows what there is"}
    async with client.post(f"{url}/metrics") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"
        assert await response.json() == {"error": "POST is not allowed here"}


# Actions


async def test_a_retraining_is_asked_for_by_query_or_json_or_for_all_streams(
    url: str, client: aiohttp.ClientSession, retrain: Retrain
) -> None:
    action = f"{url}/-/retrain"
    async with client.post(action, params={"stream": "prices-0"}, headers=AUTHORIZED) as response:
        assert (response.status, await response.json()) == (200, {"requested": "one"})
    async with client.post(action, json={"stream": "prices-0"}, headers=AUTHORIZED) as response:
        assert (response.status, await response.json()) == (200, {"requested": "one"})
    async with client.post(action, headers=AUTHORIZED) as response:
        assert (response.status, await response.json()) == (200, {"requested": "all"})
    assert retrain.asked == ["prices-0", "prices-0", None]


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \u00e9"]
)
async def test_a_wrong_or_missing_token_is_refused(
    url: str, client: aiohttp.ClientSession, retrain: Retrain, header: str | None
) -> None:
    headers = {"Authorization": header} if header is not None else {}
    async with client.post(f"{url}/-/retrain", headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert await response.json() == {"error": "wrong or missing token"}
    assert retrain.asked == []


async def test_without_a_configured_token_every_action_is_refused(
    start: Start, client: aiohttp.ClientSession, retrain: Retrain
) -> None:
    url = await start(token=None)
    for headers in (AUTHORIZED, {"Authorization": "Bearer "}, {}):
        async with client.post(f"{url}/-/retrain", headers=headers) as response:
            assert response.status == 403
            assert "no token is configured" in (await response.json())["error"]
    assert retrain.asked == []


async def test_an_unknown_stream_is_not_found(url: str, client: aiohttp.ClientSession) -> None:
    async with client.post(f"{url}/-/retrain", json={"stream": "nope"}, headers=AUTHORIZED) as response:
        assert response.status == 404
        assert await response.json() == {"error": "there is no stream 'nope'"}


async def test_what_an_action_refuses_is_a_conflict(start: Start, client: aiohttp.ClientSession) -> None:
    async def revert(stream: str | None, model: str | None) -> Mapping[str, Any]:
        raise StreamerError(f"{stream} has no model before {model}")

    url = await start(revert=revert)
    async with client.post(f"{url}/-/revert?stream=a&model=b", headers=AUTHORIZED) as response:
        assert (response.status, await response.json()) == (409, {"error": "a has no model before b"})


async def test_an_error_of_our_own_in_an_action_is_not_taken_for_an_unknown_stream(
    start: Start, client: aiohttp.ClientSession
) -> None:
    async def broken(stream: str | None) -> Mapping[str, Any]:
        raise KeyError("something else")

    url = await start(broken=broken)
    async with client.post(f"{url}/-/broken?stream=a", headers=AUTHORIZED) as response:
        assert response.status == 500
        assert "something else" not in await response.text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"[" * 60_000, 400),
        (b'{"stream": 7}', 400),
        (b'{"steam": "prices-0"}', 400),
        (b" " * (http.MAX_BODY + 1), 413),
        (b"{}", 200),
        (b'{"stream": null}', 200),
    ],
)
async def test_bodies_that_are_no_request_are_refused(
    url: str, client: aiohttp.ClientSession, body: bytes, status: int
) -> None:
    async with client.post(f"{url}/-/retrain", data=body, headers=AUTHORIZED) as response:
        assert response.status == status
        assert ("error" in await response.json()) == (status != 200)


# Limits


async def test_a_body_that_does_not_come_ends_the_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_TIMEOUT", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
    head = f"POST /-/retrain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_a_connection_that_never_sends_its_headers_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.05)
    url = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
    writer.write(b"GET / HTTP/1.1\r\nHost:")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_connection_whose_headers_trickle_is_closed_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte is a sign of life, and no reason to wait for the next."""
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(await start()))
    writer.write(b"GET / HTTP/1.1\r\nX-Long: ")

    async def trickle() -> None:
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    with suppress(ConnectionError):
        assert await reader.read() == b""
    trickling.cancel()
    writer.transport.abort()


async def test_an_answer_that_nobody_reads_is_given_up(
    metrics: Metrics, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_TIMEOUT", 1.0)
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    beyond_all_buffers = "x" * 2**25
    server = HttpServer("127.0.0.1", 0, metrics, health, views={"much": lambda: {"x": beyond_all_buffers}})
    port = await server.start()
    with socket.create_connection(("127.0.0.1", port)) as unread:
        unread.sendall(b"GET /api/v1/much HTTP/1.1\r\nHost: x\r\n\r\n")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:

            async def has_room() -> bool:
                with suppress(aiohttp.ClientConnectionError):
                    async with client.get(f"http://127.0.0.1:{port}/livez") as response:
                        return response.status == 200
                return False

            async def is_full() -> bool:
                return not await has_room()

            await eventually(is_full)
            await eventually(has_room)
    await server.stop(1)


async def test_a_header_beyond_the_limit_is_refused(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(url, headers={"X-Long": "x" * (http.MAX_HEADER + 1)}) as response:
        assert response.status == 400


async def test_connections_beyond_the_limit_are_closed_and_room_is_made_by_those_that_end(
    url: str, monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    first, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await first.readline()).startswith(b"HTTP/1.1 200")
    with pytest.raises(aiohttp.ClientError):
        await client.get(f"{url}/livez")
    writer.close()
    await writer.wait_closed()

    async def answers() -> bool:
        try:
            async with client.get(f"{url}/livez") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    attempt: Callable[[], bool | Awaitable[bool]] = answers
    await eventually(attempt)


# Start and stop


async def test_an_occupied_port_is_one_line_that_names_it_and_the_remedy(metrics: Metrics, health: Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            await HttpServer("127.0.0.1", port, metrics, health).start()
    text = str(caught.value)
    assert f"127.0.0.1, port {port}: another process has it" in text
    assert "http.port" in text
    assert "\n" not in text
    assert caught.value.exit_code == ExitCode.UNMENDABLE


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "not an address of this machine"), ("no such host", "no address and no known name")],
)
async def test_a_host_that_is_not_ours_is_one_line_that_names_it(
    metrics: Metrics, health: Health, host: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await HttpServer(host, 0, metrics, health).start()
    assert str(caught.value).startswith(f"cannot listen on {host}, port 0: ")
    assert reason in str(caught.value)
    assert "http.host" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_stopped_server_gives_its_port_back(metrics: Metrics, health: Health) -> None:
    server = HttpServer("127.0.0.1", 0, metrics, health)
    port = await server.start()
    await server.stop(1)
    again = HttpServer("127.0.0.1", port, metrics, health)
    assert await again.start() == port
    await again.stop(1)
    await again.stop(1)


async def test_an_idle_connection_does_not_hold_up_the_stop(metrics: Metrics, health: Health) -> None:
    server = HttpServer("127.0.0.1", 0, metrics, health)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(10):
        await server.stop(60)
    writer.close()
    await writer.wait_closed()


async def test_a_request_that_hangs_does_not_keep_the_server_from_stopping(
    metrics: Metrics, health: Health, client: aiohttp.ClientSession
) -> None:
    begun = asyncio.Event()

    async def hang() -> Mapping[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    server = HttpServer("127.0.0.1", 0, metrics, health, SecretStr(TOKEN), {"hang": hang})
    url = f"http://127.0.0.1:{await server.start()}"
    request = asyncio.create_task(client.post(f"{url}/-/hang", headers=AUTHORIZED))
    await begun.wait()
    async with asyncio.timeout(10):
        await server.stop(0.2)
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_request_under_way_may_finish_while_the_server_stops(
    metrics: Metrics, health: Health, client: aiohttp.ClientSession
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> Mapping[str, Any]:
        begun.set()
        await go_on.wait()
        return {"done": True}

    server = HttpServer("127.0.0.1", 0, metrics, health, SecretStr(TOKEN), {"work": work})
    url = f"http://127.0.0.1:{await server.start()}"
    request = asyncio.create_task(client.post(f"{url}/-/work", headers=AUTHORIZED))
    await begun.wait()
    stopping = asyncio.create_task(server.stop(20))
    go_on.set()
    async with await request as response:
        assert json.loads(await response.text()) == {"done": True}
    await stopping
