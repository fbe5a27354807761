"""From the bad message to its dead letter and, by `streamer dlq`, back to its bytes; and each limit on the way."""

import asyncio
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamer.config import load
from streamer.core.outcome import Rejected
from streamer.errors import BrokerError
from streamer.service.broker import Broker
from streamer.service.records import dead_letter_record
from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Published, tick
from tests.e2e.harness import Service
from tests.e2e.script import RUBBISH
from tests.support import CHECKOUT, read_all

PATTERN = bytes(range(256)) * 2
"""Bytes that are no text."""


def dlq(service: Service, action: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "streamer", "dlq", action, *arguments, "-c", service.folder / "config.json"],
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
        timeout=60,
    )


async def done(service: Service, action: str, *arguments: str) -> str:
    """What the command printed; it has to succeed."""
    result = await asyncio.to_thread(dlq, service, action, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


async def refused(service: Service, *arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(dlq, service, "show", *arguments)
    assert result.stdout == b""
    return result.returncode, result.stderr.decode().strip()


async def outcomes(bootstrap: str, tmp_path: Path, prices: str, messages: list[Message], **sections: Any) -> Published:
    """What a daemon makes of `messages`."""
    feed = Feed(bootstrap, prices)
    await feed.send(messages)
    async with Service(bootstrap, tmp_path, prices, **({"retrain": {"every": 0}} | sections)) as service:
        await service.caught_up(len(messages))
        published = await service.published()
        assert await service.terminate() == 0
    return published


def reasons(published: Published) -> dict[int, str]:
    """Reason of each dead letter by the offset of its message."""
    headers = [dict(record.headers) for record in published.dead_letters]
    return {int(h["__streams.errors.offset"]): h["__streams.errors.exception"].decode() for h in headers}


# --- streamer dlq -----------------------------------------------------------------------------------------------------


async def test_dlq_lists_every_dead_letter_and_gives_back_the_bytes_of_each(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    bad = [(reason, value) for reason, values in RUBBISH.items() for value in values]
    messages = [Message(value, b"eu", partition=n % 2, headers=(("from", b"us"),)) for n, (_, value) in enumerate(bad)]
    messages += [Message(PATTERN, b"\xff\x1b"), tick(0, {"A": 1.0})]
    feed = Feed(bootstrap, prices)
    sent = await feed.send(messages)
    limits = {"message_bytes": 4096}
    async with Service(bootstrap, tmp_path, prices, limits=limits, retrain={"every": 0}) as service:
        await service.caught_up(len(sent))
        assert await service.terminate() == 0

    listed = [json.loads(line) for line in (await done(service, "list", "--json")).splitlines()]
    expected = {f"{prices}-{p}-{o}": reason for (p, o), (reason, _) in zip(sent[: len(bad)], bad, strict=True)}
    expected[f"{prices}-{sent[-2][0]}-{sent[-2][1]}"] = "invalid_key"
    assert {f"{each['topic']}-{each['partition']}-{each['offset']}": each["reason"] for each in listed} == expected
    assert [each["time"] for each in listed] == sorted(each["time"] for each in listed)
    for (partition, offset), message in zip(sent[:-1], messages, strict=False):
        raw = await asyncio.to_thread(dlq, service, "show", f"{prices}-{partition}-{offset}", "--raw")
        assert (raw.returncode, raw.stdout) == (0, message.value or b""), raw.stderr

    some = (await done(service, "list", "--reason", "empty", "--limit", "1")).splitlines()
    assert len(some) == 1
    assert "  empty  0 B  no value" in some[0] or "  empty  no value  no value" in some[0]
    shown = await done(service, "show", listed[0]["dead_letter"])
    assert listed[0]["reason"] in shown
    assert "__streams.errors.offset: " in shown
    assert "  from: us" in shown
    binary = await done(service, "show", f"{prices}-{sent[-2][0]}-{sent[-2][1]}")
    assert binary.replace("\n", "").isprintable()
    assert "000000f0  f0 f1 f2" in binary
    assert "00000040  40 41 42" in binary
    assert "@ABCDEFGHIJKLMNO" in binary


async def test_dlq_says_in_a_line_what_is_not_there(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    service = Service(bootstrap, tmp_path, await topics.create("prices"))
    (service.folder / "config.json").write_text(json.dumps(service.settings))
    code, line = await refused(service, "prices-0-1")
    assert (code, line) == (3, f"streamer: topic {service.topic('dead_letters')!r} (kafka.topics.dead_letters) does not"
                               f" exist at {bootstrap}: `streamer run` makes it, or check the name")  # fmt: skip
    service.settings["kafka"]["topics"]["dead_letters"] = letters = await topics.create("letters")
    (service.folder / "config.json").write_text(json.dumps(service.settings))
    for place in ("prices-0-1", "prices-7-1", f"{letters}-0-5"):
        assert await refused(service, place) == (
            1,
            f"streamer: {place} has no dead letter in topic {letters!r}: see streamer dlq list",
        )
    assert (await refused(service, "prices"))[0] == 2
    assert await done(service, "list") == ""


# --- a dead letter's size ---------------------------------------------------------------------------------------------


async def test_dead_letters_are_cut_to_what_their_topic_takes(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """A batch of small ones is no more than it takes either, and a key too large is cut like a value."""
    prices = await topics.create("prices")
    letters = await topics.create("letters", max_message_bytes="5000")
    value, key = random.Random(6).randbytes(100_000), random.Random(7).randbytes(9_000)
    large = [Message(value, b"key", headers=(("large", b"x" * 3000),)), Message(b"{}", key), Message(value, key)]
    small = [Message(b'"no tick %03d' % n + b"x" * 500) for n in range(100)]
    headers_only = [Message(b"{", headers=(("large", b"x" * 5000),))]
    messages = [*large, *small, *headers_only, tick(0, {"A": 1.0})]
    published = await outcomes(
        bootstrap,
        tmp_path,
        prices,
        messages,
        kafka={"topics": {"dead_letters": letters}},
        limits={"message_bytes": 4096},
    )
    assert [v["source"]["offset"] for v in published.values()] == [len(messages) - 1]
    assert len(published.dead_letters) == len(messages) - 1
    for record, message in zip(published.dead_letters, messages, strict=False):
        parts = {"key": (record.key, message.key), "value": (record.value, message.value)}
        headers = dict(record.headers)
        for name, (kept, whole) in parts.items():
            assert (kept is None) == (whole is None)
            assert (whole or b"").startswith(kept or b"")
            if kept != whole:
                assert whole is not None
                assert kept
                assert headers[f"streamer.original.{name}.length"] == str(len(whole)).encode()
                assert headers[f"streamer.original.{name}.sha256"].decode() == hashlib.sha256(whole).hexdigest()
    assert [record.value for record in published.dead_letters[3:]] == [m.value for m in (*small, *headers_only)]
    assert dict(published.dead_letters[-1].headers)["streamer.original.headers.count"] == b"1"


async def test_a_message_of_a_whole_megabyte_is_kept_whole_in_a_topic_of_ours(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    value = random.Random(6).randbytes(1_000_000)
    published = await outcomes(bootstrap, tmp_path, prices, [Message(value)], limits={"message_bytes": 4096})
    assert [record.value for record in published.dead_letters] == [value]


async def test_a_topic_without_room_for_the_headers_is_refused_at_the_start(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices, letters = await topics.create("prices"), await topics.create("letters", max_message_bytes="1000")
    async with Service(bootstrap, tmp_path, prices, kafka={"topics": {"dead_letters": letters}}) as service:
        assert await service.exited() == 3
    line = service.stderr().splitlines()[-1]
    assert line == (
        f"streamer: topic {letters!r} takes 1000 bytes at most: raise its max.message.bytes to 4096 or more, which the"
        " headers of a dead letter need"
    )


async def test_a_topic_that_takes_less_than_before_does_not_stop_the_stream(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices, letters = await topics.create("prices"), await topics.create("letters")
    feed = Feed(bootstrap, prices)
    await feed.send([Message(b"x" * 8000)])
    outputs = {"topics": {"dead_letters": letters}}
    async with Service(bootstrap, tmp_path, prices, kafka=outputs, retrain={"every": 0}) as service:
        await service.caught_up(1)
        for topic in (letters, service.topic("forecasts")):
            await take_less(bootstrap, topic)
        await feed.send([Message(b"y" * 8000), *(tick(at, {"A": 1.0}) for at in range(200))])
        await service.caught_up(202)
        published = await service.published()
    assert [len(record.value) == 8000 for record in published.dead_letters] == [True, False]
    assert [value["source"]["offset"] for value in published.values()] == list(range(2, 202))


async def take_less(bootstrap: str, topic: str) -> None:
    """Have `topic` take no more than 5,000 bytes from now on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "5000"})])
    await admin.close()


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_where_the_broker_does_not_tell_the_limit_dead_letters_get_smaller_until_they_are_taken(
    bootstrap: str, topics: Topics, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    """As for a user who may write to the topic and not describe it."""
    made = {role: await topics.create(role) for role in ("prices", "forecasts", "state")}
    made["dead_letters"] = letters = await topics.create("letters", max_message_bytes="5000")
    settings = load(None, {}, {"kafka": {"bootstrap_servers": bootstrap, "delivery": delivery, "topics": made}}).kafka
    broker = Broker(settings, input_span=0)
    monkeypatch.setattr(broker, "_largest_batches", AsyncMock(return_value={}))
    message = ConsumerRecord(made["prices"], 0, 17, 0, 0, b"k", b"v" * 900_000, None, 0, 0, ())
    await broker.connect(asyncio.Event())
    try:
        await broker.check_topics()
        for _ in range(10):  # 1,000,000 bytes halved until they are less than 5,000
            letter = dead_letter_record(letters, message, Rejected("r", "d"), broker.largest_dead_letter)
            sink = broker.sink(TopicPartition(made["prices"], 0), AsyncMock())
            await sink.start()
            try:
                await sink.commit([letter], None)
                break
            except BrokerError:  # the worker begins anew
                continue
            finally:
                await sink.stop()
        (record,) = await read_all(bootstrap, letters)
    finally:
        await broker.close()
    assert message.value.startswith(record.value)
    assert record.value


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_what_is_at_a_limit_is_a_tick_and_what_is_beyond_is_a_dead_letter_with_its_bytes(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    limits = {"streams": 2, "symbols": 3, "symbol_length": 5, "key_bytes": 8, "message_bytes": 200}
    full = {"ts": 1_700_000_340_000, "prices": {"A": 1.0}, "pad": ""}
    full["pad"] = "x" * (200 - len(json.dumps(full)))
    table: list[tuple[Message, str | None]] = [
        (tick(0, {"A": 1.0, "B": 2.0}), None),
        (tick(1, {"A": 1.0, "B": 2.0, "ééééé": 3.0}), None),
        (tick(2, dict.fromkeys("ABCD", 1.0)), "too_many_symbols"),
        (tick(3, {"A": 1.0, "new": 1.0}), "too_many_symbols"),  # the stream would have four
        (tick(4, {"éééééé": 1.0}), "symbol_too_long"),
        (Message(json.dumps(full).encode()), None),
        (Message(json.dumps(full).encode() + b" "), "too_large"),
        (tick(0, {"A": 1.0}, key=b"12345678"), None),
        (tick(0, {"A": 1.0}, key=b"123456789"), "invalid_key"),
        (tick(0, {"A": 1.0}, key=b"third"), "too_many_streams"),
        (tick(1, {"A": 1.0}, key=b"12345678"), None),
    ]
    messages = [message for message, _ in table]
    published = await outcomes(bootstrap, tmp_path, prices, messages, limits=limits)
    assert reasons(published) == {offset: reason for offset, (_, reason) in enumerate(table) if reason}
    assert [(r.key, r.value) for r in published.dead_letters] == [(m.key, m.value) for m, reason in table if reason]
    assert len(published.forecasts) == sum(reason is None for _, reason in table)


async def test_a_list_of_prices_has_to_be_as_long_as_the_symbols(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    values = [json.dumps({"ts": 1_700_000_040_000 + n * 60_000, "prices": [1.0] * n}).encode() for n in (1, 2, 3)]
    published = await outcomes(
        bootstrap, tmp_path, prices, [Message(value) for value in values], feed={"symbols": ["A", "B"]}
    )
    assert reasons(published) == {0: "length_mismatch", 2: "length_mismatch"}
    assert [record.value for record in published.dead_letters] == [values[0], values[2]]
