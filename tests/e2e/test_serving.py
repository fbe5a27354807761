"""Everything that a feed can hold, through the real daemon and a real broker."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Offset, Published, tick
from tests.e2e.harness import Samples, Service
from tests.e2e.script import MAX_GAP, MESSAGE_BYTES, Expected, Script, iso, scripts, send
from tests.support import kcat

DROPPED = ("duplicate", "late", "merged")


@pytest.mark.parametrize(("delivery", "messages"), [("exactly_once", 400), ("at_least_once", 80)])
async def test_every_message_has_exactly_the_outcome_that_it_must_have(
    bootstrap: str, topics: Topics, tmp_path: Path, delivery: str, messages: int
) -> None:
    prices = await topics.create("prices", partitions=2)
    service = Service(
        bootstrap,
        tmp_path,
        prices,
        kafka={"delivery": delivery},
        feed={"max_gap": MAX_GAP, "change": "log_return"},  # the script holds zero and negative prices for blanks
        limits={"message_bytes": MESSAGE_BYTES},
        retrain={"every": 0},
    )
    feed, made = Feed(bootstrap, prices), scripts(prices, messages)
    expected = await send(feed, made)
    async with service:
        await service.caught_up(len(expected))
        published, scrape = await service.published(), await service.metrics()
        assert await service.terminate() == 0

    each_has_its_outcome(published, expected, prices)
    forecasts_are_in_order(published)
    the_counters_agree(scrape, made)
    kcat_reads_the_same(service, published)


def each_has_its_outcome(published: Published, expected: dict[Offset, Expected], prices: str) -> None:
    """A forecast or a dead letter for each offset that needs one, none for the dropped, no other records."""
    found = published.by_offset()
    dropped = {offset for offset, each in expected.items() if each.outcome in DROPPED}
    assert set(found) == set(expected) - dropped
    for offset, records in found.items():
        (record,) = records
        wanted = expected[offset]
        assert record.partition == offset[0]
        if wanted.outcome == "forecast":
            is_the_forecast(record, wanted, prices, offset)
        else:
            is_the_dead_letter(record, wanted, prices, offset)


def is_the_forecast(record: Any, wanted: Expected, prices: str, offset: Offset) -> None:
    """Its fields, all of them, and its headers."""
    forecast = json.loads(record.value)
    lower, upper = forecast.pop("yhat_lower"), forecast.pop("yhat_upper")
    identity = f"{prices}-{offset[0]}-{offset[1]}"
    assert forecast == {
        "id": identity,
        "stream": wanted.stream,
        "as_of": iso(wanted.as_of),
        "target": iso(wanted.as_of + 1),
        "yhat": wanted.last,  # there is no model, so that the forecast is the last price
        "last": wanted.last,
        "model": "persistence",
        "source": {"topic": prices, "partition": offset[0], "offset": offset[1]},
    }
    assert record.key.decode() == wanted.stream
    for symbol, yhat in forecast["yhat"].items():
        assert lower[symbol] <= yhat <= upper[symbol]
    headers = dict(record.headers)
    assert len(headers) == len(record.headers)
    assert headers.pop("ce_source").startswith(b"/")
    assert headers == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": identity.encode(),
        "ce_type": b"streamer.forecast.v1",
        "ce_time": iso(wanted.as_of).encode(),
        "traceparent": dict(wanted.message.headers)["traceparent"],
    }


def is_the_dead_letter(record: Any, wanted: Expected, prices: str, offset: Offset) -> None:
    """Key, bytes and headers as they came, and the headers of KIP-1034."""
    headers = dict(record.headers)
    assert headers["__streams.errors.exception"].decode() == wanted.outcome
    assert headers["__streams.errors.message"]
    assert headers["__streams.errors.topic"].decode() == prices
    assert headers["__streams.errors.partition"].decode() == str(offset[0])
    assert headers["__streams.errors.offset"].decode() == str(offset[1])
    assert (record.key, record.value) == (wanted.message.key, wanted.message.value)
    own = [each for each in record.headers if not each[0].startswith(("__streams.errors.", "streamer.original."))]
    assert own == list(wanted.message.headers)


def forecasts_are_in_order(published: Published) -> None:
    """Within each partition, by input offset."""
    sources = [(v["source"]["partition"], v["source"]["offset"]) for v in published.values()]
    assert sources == sorted(sources)


def the_counters_agree(scrape: Samples, made: list[Script]) -> None:
    """Each metric of the input is what was put into it."""
    outcomes = Counter(each.outcome for script in made for each in script.made)
    dead = {reason: n for reason, n in outcomes.items() if reason not in ("forecast", *DROPPED)}
    ticks = {s: scrape.total("streamer_ticks_total", status=s) for s in ("forecast", *DROPPED)}
    assert ticks == {status: outcomes[status] for status in ticks}
    assert scrape.total("streamer_ticks_total", status="dead_letter") == sum(dead.values())
    assert {r: scrape.total("streamer_dead_letters_total", reason=r) for r in dead} == dead
    for script in made:
        own = Counter(each.outcome for each in script.made)
        counted = {
            name: scrape.total(f"streamer_{metric}_total", stream=script.name)
            for name, metric in (
                ("blank", "blank_prices"),
                ("missing", "missing_ticks"),
                ("break", "session_breaks"),
                ("conflict", "conflicts"),
            )
        }
        assert counted == {name: script.counts[name] for name in counted}
        for status in DROPPED:
            assert scrape.total("streamer_ticks_total", stream=script.name, status=status) == own[status]


def kcat_reads_the_same(service: Service, published: Published) -> None:
    """Librdkafka's client sees the same keys and parses the same JSON."""
    records = kcat(service.bootstrap, service.topic("forecasts"))
    assert [json.loads(record["payload"]) for record in records] == published.values()
    assert [record["key"] for record in records] == [record.key.decode() for record in published.forecasts]


async def test_a_message_too_large_for_its_dead_letter_is_cut_and_told_by_length_and_hash(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    value = random.Random(6).randbytes(1_000_000)
    feed = Feed(bootstrap, prices)
    await feed.send([Message(value, b"key", headers=(("large", b"x"),)), tick(0, {"A": 1.0}, key=b"key")])
    limits = {"message_bytes": MESSAGE_BYTES}
    outputs = {"topics": {"dead_letters": await topics.create("letters", max_message_bytes="500000")}}
    async with Service(bootstrap, tmp_path, prices, kafka=outputs, limits=limits, retrain={"every": 0}) as service:
        await service.caught_up(2)
        published = await service.published()
    assert [v["source"]["offset"] for v in published.values()] == [1]
    (letter,) = published.dead_letters
    headers = dict(letter.headers)
    assert headers["__streams.errors.exception"] == b"too_large"
    assert 0 < len(letter.value) < len(value)
    assert value.startswith(letter.value)
    assert headers["streamer.original.value.length"] == b"1000000"
    assert headers["streamer.original.value.sha256"].decode() == hashlib.sha256(value).hexdigest()
    assert letter.key == b"key"


async def test_a_record_with_neither_key_nor_value_is_a_dead_letter_too(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Sent by librdkafka, since aiokafka's producer refuses to; a feed of another language is not so particular."""
    prices = await topics.create("prices")
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(prices, value=None, key=None, partition=0)
    assert producer.flush(10) == 0
    await Feed(bootstrap, prices).send([tick(0, {"A": 1.0})])
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as service:
        await service.caught_up(2)
        published = await service.published()
    assert [v["source"]["offset"] for v in published.values()] == [1]
    (letter,) = published.dead_letters
    assert dict(letter.headers)["__streams.errors.exception"] == b"empty"
    assert not letter.value


def wide(rows: int, name: str, **fields: Any) -> list[Message]:
    """Ticks of 2,048 symbols, as many as limits.symbols allows, with prices of all digits."""
    draw = random.Random(7)
    names = [f"{name}{number:04d}" for number in range(2048)]
    return [tick(row, {each: draw.uniform(1.0, 1000.0) for each in names}, **fields) for row in range(rows)]


async def test_as_many_and_as_long_symbols_as_the_limits_allow_are_served_and_restored(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Forecast and snapshot are larger than the 1 MiB that Kafka takes if nothing is said."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    many, long = wide(106, "S", key=b"many"), wide(4, "é" * 60, key=b"long")
    await feed.send(many[:-1] + long[:-1])
    async with Service(bootstrap, tmp_path, prices, feed={"window": 100}, retrain={"every": 0}) as service:
        await service.caught_up(len(feed.sent))
        assert await service.terminate() == 0
        service.start()
        await feed.send([many[-1], long[-1]])
        await service.caught_up(len(feed.sent))
        published, scrape = await service.published(), await service.metrics()
        assert not [event for event in service.events() if event["level"] in ("warning", "error")]
    assert sorted(published.forecast_values()) == feed.sent
    assert scrape.each("streamer_window_fill_ratio", stream="many") == [1.0]
    assert max(len(record.value) for record in published.forecasts) > 2**20


async def test_a_record_that_its_topic_does_not_take_ends_the_daemon_with_the_remedy(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    outputs = {"state": await topics.create("state", max_message_bytes="300")}
    await Feed(bootstrap, prices).send([tick(0, {"A": 1.0})])
    async with Service(bootstrap, tmp_path, prices, kafka={"topics": outputs}) as service:
        assert await service.exited() == 3
    line = service.stderr().splitlines()[-1]
    assert "max.message.bytes" in line
    assert "feed.window" in line
