"""What a user sees of messages that the configuration reads, or does not: before the daemon runs, and while it does."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.codec import parse_time
from tests.e2e.conftest import Topics
from tests.e2e.feeding import START, Feed, Message
from tests.e2e.harness import Service, until
from tests.e2e.script import iso
from tests.e2e.test_feed_and_tail import run, said, start
from tests.registry import RegistryServer, registry_server
from tests.support import free_port

NESTED = {"fields": {"time": "meta.at", "prices": "data.close"}, "time_unit": "s"}
NOW = time.time_ns() // 1_000_000
SCHEMA = {
    "type": "record",
    "name": "Tick",
    "fields": [{"name": "ts", "type": "long"}, {"name": "prices", "type": {"type": "map", "values": "double"}}],
}


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


def configuration(folder: Path, bootstrap: str, prices: str, **sections: Any) -> Path:
    path = folder / "streamer.json"
    kafka = {"bootstrap_servers": bootstrap, "topics": {"prices": prices}, "startup_timeout": "5s"}
    path.write_text(json.dumps({"kafka": kafka, **sections}))
    return path


def nested(at: int, **close: Any) -> Message:
    value = {"meta": {"at": START // 1000 + 60 * at}, "data": {"close": close}}
    return Message(json.dumps(value).encode(), timestamp=NOW + at)


def avro(number: int, at: int, price: float = 1.5) -> Message:
    """Written by hand, so that no codec is right by its own mistake: a zigzag long, a map of one pair, its end."""
    left, zigzag = (START + 60_000 * at) << 1, bytearray()
    while left > 0x7F:
        zigzag.append(left & 0x7F | 0x80)
        left >>= 7
    zigzag.append(left)
    pair = b"\x02" + b"\x02A" + struct.pack("<d", price) + b"\x00"
    return Message(b"\0" + number.to_bytes(4, "big") + bytes(zigzag) + pair)


class TestSample:
    async def test_the_newest_messages_are_shown_as_they_are_read(
        self, bootstrap: str, topics: Topics, tmp_path: Path
    ) -> None:
        prices = await topics.create("prices", partitions=2)
        messages = [nested(at, A=1.5, B=None) for at in range(8)]
        messages[6] = Message(messages[6].value, b"eu", 1, timestamp=messages[6].timestamp)
        await Feed(bootstrap, prices).send(messages)
        config = configuration(tmp_path, bootstrap, prices, input=NESTED)
        code, out, err = await run("check-config", config, "--sample", "3")
        assert (code, err) == (0, "streamer: 3 of 3 messages are ticks\n")
        assert out.splitlines() == [
            f"{prices}-0-5  {iso(5)}  {prices}-0  A        1.5  B          -",
            f"{prices}-1-0  {iso(6)}  eu  A        1.5  B          -",
            f"{prices}-0-6  {iso(7)}  {prices}-0  A        1.5  B          -",
        ]
        code, out, _ = await run("check-config", config, "--sample", "100", "--json")
        assert code == 0
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["time"] for line in lines] == [iso(at) for at in range(8)]
        assert lines[6] == {"record": f"{prices}-1-0", "stream": "eu", "time": iso(6), "prices": {"A": 1.5, "B": None}}

    async def test_what_is_no_tick_is_shown_with_the_path_and_what_was_found_there(
        self, bootstrap: str, topics: Topics, tmp_path: Path
    ) -> None:
        prices = await topics.create("prices")
        other = json.dumps({"meta": {"at": 0}, "data": {"time": 1, "open": 2}}).encode()
        await Feed(bootstrap, prices).send([nested(0, A=1), nested(1, A="x"), Message(other), Message(b"{")])
        config = configuration(tmp_path, bootstrap, prices, input=NESTED)
        code, out, err = await run("check-config", "-c", config, "--sample", "5")
        assert code == 1
        assert err == "streamer: 1 of 4 messages are ticks\n"
        _, *problems = sorted(out.splitlines())
        assert problems[0].startswith(f"{prices}-0-1  wrong_type: data.close['A']: found 'x', expected a number  {{")
        assert f"{prices}-0-2  missing_field: data.close: not there; found in data time, open  {{" in problems[1]
        assert problems[2].startswith(f"{prices}-0-3  malformed: ")
        code, out, _ = await run("check-config", "-c", config, "--sample", "1", "--json")
        assert code == 1
        assert json.loads(out)["reason"] == "malformed"

    async def test_a_topic_without_messages_is_no_problem_and_a_missing_one_is(
        self, bootstrap: str, topics: Topics, tmp_path: Path
    ) -> None:
        prices = await topics.create("prices")
        code, out, err = await run("check-config", configuration(tmp_path, bootstrap, prices), "--sample", "5")
        assert (code, out) == (0, "")
        assert err.splitlines()[0] == f"streamer: topic '{prices}' (kafka.topics.prices) has no messages yet"
        missing = configuration(tmp_path, bootstrap, f"{prices}-other")
        code, out, err = await run("check-config", missing, "--sample", "5")
        assert (code, out) == (3, "")
        assert err.startswith(f"streamer: topic '{prices}-other' (kafka.topics.prices) does not exist at {bootstrap}")

    async def test_a_registry_that_cannot_be_reached_is_one_line_and_exit_code_3(
        self, bootstrap: str, topics: Topics, tmp_path: Path
    ) -> None:
        prices, url = await topics.create("prices"), f"http://127.0.0.1:{free_port()}"
        config = configuration(tmp_path, bootstrap, prices, input={"codec": "avro"}, registry={"url": url})
        code, out, err = await run("check-config", config, "--sample", "5")
        assert (code, out) == (3, "")
        assert err.startswith(f"streamer: no schema registry answers at {url} ([Errno 111] Connection refused): check")
        assert len(err.splitlines()) == 1

    async def test_a_schema_that_lacks_the_field_is_named_with_what_it_has(
        self, bootstrap: str, topics: Topics, tmp_path: Path, server: RegistryServer
    ) -> None:
        prices, number = await topics.create("prices"), server.add(SCHEMA)
        await Feed(bootstrap, prices).send([avro(number, 0), avro(number + 1, 1)])
        fields = {"fields": {"prices": "data.close"}}
        config = configuration(
            tmp_path, bootstrap, prices, input={"codec": "avro", **fields}, registry={"url": server.url}
        )
        code, out, _ = await run("check-config", config, "--sample", "5")
        assert code == 1
        lacking, unknown = out.splitlines()
        assert lacking.startswith(f"{prices}-0-0  missing_field: data.close: not there; found ts, prices  ")
        assert unknown.startswith(
            f"{prices}-0-1  unknown_schema: the registry at {server.url} has no /schemas/ids/2 (404"
        )


async def test_tail_shows_the_feed_live_as_it_is_read(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    prices = await topics.create("prices")
    config = configuration(tmp_path, bootstrap, prices, input=NESTED)
    process = await start("tail", "prices", "-c", config, "--limit", "2")
    await said(process, f"watching {prices}")
    await Feed(bootstrap, prices).send([nested(0, A=1.5), Message(b"{}")])
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().splitlines() == [
        f"{prices}-0-0  {iso(0)}  {prices}-0  A        1.5",
        f"{prices}-0-1  missing_field: meta.at: not there; found nothing  {{}}",
    ]


async def test_feed_refuses_a_topic_that_is_read_in_another_form(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    config = configuration(tmp_path, bootstrap, prices, input=NESTED)
    data = tmp_path / "prices.csv"
    data.write_text("timestamp,A\n2018-01-01T00:00:00Z,1\n")
    code, out, err = await run("feed", "-c", config, data)
    assert (code, out) == (3, "")
    assert (
        "which `input` of the configuration does not read as that (missing_field: meta.at: not there; found ts" in err
    )


class TestRegistry:
    def service(self, bootstrap: str, folder: Path, prices: str, url: str, **kafka: Any) -> Service:
        return Service(
            bootstrap,
            folder,
            prices,
            kafka=kafka,
            input={"codec": "avro"},
            registry={"url": url, "timeout": "1s"},
            retrain={"every": 0},
        )

    async def test_a_registry_that_goes_away_stops_the_feed_and_loses_nothing(
        self, bootstrap: str, topics: Topics, tmp_path: Path, server: RegistryServer
    ) -> None:
        """Not ready meanwhile. A schema that is not registered makes a dead letter, one that cannot be had now none."""
        prices = await topics.create("prices")
        first, second = server.add(SCHEMA), server.add(SCHEMA)
        feed, service = Feed(bootstrap, prices), self.service(bootstrap, tmp_path, prices, server.url)
        async with service:
            await service.ready()
            await feed.send([avro(first, at) for at in range(5)] + [avro(99, 5)])
            await service.caught_up(6)
            server.fault = lambda request: request.answer(503, {"message": "maintenance"})
            await feed.send([avro(second, at) for at in range(6, 10)])
            begun = await service.logged("partition begins anew")
            assert "answers /schemas/ids/2 with 503 maintenance" in begun["error"]
            await until(lambda: self.is_not_ready(service))
            server.fault = None
            await service.caught_up(10)
            await service.ready()
            published = await service.published()
            assert await service.terminate() == 0
        outcomes = published.by_offset()
        assert sorted(offset for _, offset in outcomes) == list(range(10))
        assert all(len(records) == 1 for records in outcomes.values())
        assert [parse_time(each["as_of"]) for each in published.values()] == [
            START + 60_000 * at for at in range(10) if at != 5
        ]
        (letter,) = published.dead_letters
        assert dict(letter.headers)["__streams.errors.exception"] == b"unknown_schema"
        assert letter.value == avro(99, 5).value

    async def is_not_ready(self, service: Service) -> bool:
        return (await service.get("/readyz"))[0] == 503

    async def test_a_daemon_that_is_started_anew_reads_back_what_it_needs_by_the_registry(
        self, bootstrap: str, topics: Topics, tmp_path: Path, server: RegistryServer
    ) -> None:
        """Replay and history are decoded as the feed is."""
        prices, number = await topics.create("prices"), server.add(SCHEMA)
        feed, service = Feed(bootstrap, prices), self.service(bootstrap, tmp_path, prices, server.url)
        async with service:
            await service.ready()
            await feed.send([avro(number, at, 1.0 + at) for at in range(75)])
            await service.caught_up(75)
            await service.kill()
            server.requests.clear()
            service.start()
            await service.ready()

            async def holds_all() -> bool:
                """The history comes beside the path, and the gauge is set with a tick."""
                await feed.send([avro(number, len(feed.sent))])
                await service.caught_up(len(feed.sent))
                held = (await service.metrics()).total("streamer_history_fill_ratio") * 2000
                return round(held) == len(feed.sent)

            await until(holds_all)
            published = await service.published()
            assert await service.terminate() == 0
        assert server.requests.count(f"/schemas/ids/{number}") == 1
        assert len(published.forecast_values()) == len(feed.sent)

    async def test_a_registry_that_is_away_at_the_start_is_waited_for_and_then_named(
        self, bootstrap: str, topics: Topics, tmp_path: Path
    ) -> None:
        prices, url = await topics.create("prices"), f"http://127.0.0.1:{free_port()}"
        service = self.service(bootstrap, tmp_path, prices, url, startup_timeout="2s")
        async with service:
            await service.logged("waiting for the schema registry")
            assert await service.exited() == 1
        assert service.stderr().splitlines()[-1].startswith(f"streamer: no schema registry answers at {url} (")

    async def test_a_registry_that_refuses_us_or_our_schema_ends_the_start_at_once(
        self, bootstrap: str, topics: Topics, tmp_path: Path, server: RegistryServer
    ) -> None:
        prices = await topics.create("prices")
        service = self.service(bootstrap, tmp_path, prices, server.url)
        server.fault = lambda request: request.answer(401, {"message": "who?"})
        async with service:
            assert await service.exited() == 3
        assert f"streamer: the registry at {server.url} refuses us (401 who?)" in service.stderr()
        server.fault = lambda request: request.answer(409, {"message": "incompatible"})
        service.settings |= {"input": {}, "output": {"codec": "avro"}}
        async with service:
            assert await service.exited() == 3
        said = f"streamer: the registry at {server.url} refuses the schema of the forecasts: 409 incompatible"
        assert service.stderr().splitlines()[-1] == said
