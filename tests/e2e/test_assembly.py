"""Feeds of one symbol a message, through the real daemon and a real broker."""

import json
import os
import random
import secrets
from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from streamer.codec import format_time
from tests.e2e.conftest import Topics
from tests.e2e.feeding import MINUTE, Feed, Message, Published, random_walk, tick
from tests.e2e.harness import Service
from tests.e2e.parts import parts
from tests.e2e.script import MAX_GAP, MESSAGE_BYTES, SYMBOLS, send
from tests.e2e.test_serving import each_has_its_outcome, forecasts_are_in_order, the_counters_agree
from tests.service.test_assembly import Plain
from tests.support import eventually, shared_data

LAST = {"assemble": "last"}


async def test_every_part_has_exactly_the_outcome_that_it_must_have(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    service = Service(
        bootstrap,
        tmp_path,
        prices,
        input=LAST | {"close": "complete"},
        feed={"max_gap": MAX_GAP, "change": "log_return", "symbols": list(SYMBOLS)},
        limits={"message_bytes": MESSAGE_BYTES},
        retrain={"every": 0},
    )
    made = parts(prices, 400)
    expected = await send(Feed(bootstrap, prices), made)
    async with service:
        await service.caught_up(len(expected))
        published, scrape = await service.published(), await service.metrics()
        assert await service.terminate() == 0

    each_has_its_outcome(published, expected, prices)
    forecasts_are_in_order(published)
    the_counters_agree(scrape, made)


def in_parts(vectors: list[Message], draw: random.Random) -> tuple[list[Message], list[int]]:
    """The vectors, one symbol a message, those of a step in any order, among older prints of them, and one step more.

    Also the numbers of the messages that close a step: the first of each later one.
    """
    messages: list[Message] = []
    closing: list[int] = []
    for vector in vectors:
        body = json.loads(vector.value or b"")
        newest = [(body["ts"] + 30_000, symbol, price) for symbol, price in body["prices"].items()]
        older = [(body["ts"] + draw.randrange(30_000), draw.choice("ab"), 1.0) for _ in range(draw.randrange(3))]
        step = [*newest, *older]
        draw.shuffle(step)
        closing.append(len(messages))
        messages += [Message(json.dumps({"ts": ts, "prices": {s: p}}).encode()) for ts, s, p in step]
    return [*messages, tick(len(vectors), {"a": 1.0})], [*closing[1:], len(messages)]


async def test_killed_again_and_again_it_publishes_the_forecasts_of_the_vectors(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Each once, named by the message that closed its step."""
    seed = int(os.environ.get("STREAMER_TEST_SEED", secrets.randbelow(10**6)))
    print(f"STREAMER_TEST_SEED={seed}")
    draw, vectors = random.Random(seed), random_walk(600)
    whole = await topics.create("vectors")
    await Feed(bootstrap, whole).send(vectors)
    async with Service(bootstrap, tmp_path, whole, retrain={"every": 0}) as undisturbed:
        await undisturbed.caught_up(len(vectors))
        expected = await undisturbed.published()

    prices = await topics.create("prices")
    feed, (messages, closing) = Feed(bootstrap, prices), in_parts(vectors, draw)
    static = {"instance_id": "one", "max_poll_records": 7}
    async with Service(
        bootstrap, tmp_path, prices, kafka=static, input=LAST, retrain={"every": 0}, state={"every": 20}
    ) as service:
        await service.ready()
        async with feed.flowing(messages, rate=150):
            for _ in range(4):
                await eventually(partial(feed.has_sent, len(feed.sent) + draw.randrange(50, 300)), timeout=60)
                await service.kill()
                service.start()
            await eventually(partial(feed.has_sent, len(messages)), timeout=60)
        await service.caught_up(len(messages))
        published = await service.published()

    assert published.dead_letters == []
    assert sorted(published.forecast_values()) == [feed.sent[number] for number in closing]
    assert shown(published) == shown(expected)


def shown(published: Published) -> list[dict[str, Any]]:
    """The forecasts but for the message that each was made from, and the stream, which is named by its topic."""
    own = ("id", "source", "stream")
    return [{name: value for name, value in each.items() if name not in own} for each in published.values()]


async def test_the_raw_ticks_of_an_exchange_are_fed_as_they_are(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """Lines of 29 columns, many prints a minute, jumps back in time, duplicates, and one that is cut off."""
    header, *lines = shared_data("nasty/nse_mcx_futures_ticks_2025-11-17_raw.csv").read_text().splitlines()
    prices = await topics.create("prices")
    columns = {"time": "exchange_timestamp", "prices": None, "symbol": "Symbol", "price": "last_price"}
    feed = {"codec": "csv", "options": {"columns": header.split(",")}, "fields": columns | {"key": "$partition"}}
    service = Service(
        bootstrap, tmp_path, prices, input=LAST | feed | {"timezone": "Asia/Kolkata"}, retrain={"every": 0}
    )
    plain = Plain()
    expected = [_became(plain, line) for line in lines]

    await Feed(bootstrap, prices).send([Message(line.encode()) for line in lines])
    async with service:
        await service.caught_up(len(lines))
        published, scrape = await service.published(), await service.metrics()
        assert await service.terminate() == 0

    for status, count in Counter(expected).items():
        assert scrape.total("streamer_ticks_total", status=status) == count, status
    assert set(expected) == {"merged", "forecast", "late", "dead_letter"}
    assert [(each["as_of"], each["last"], each["source"]["offset"]) for each in published.values()] == [
        (format_time(minute * MINUTE), last, offset)
        for (minute, last), offset in zip(
            plain.forecasts, [n for n, became in enumerate(expected) if became == "forecast"], strict=True
        )
    ]
    assert [record.value.decode() for record in published.dead_letters] == [
        line for line, became in zip(lines, expected, strict=True) if became == "dead_letter"
    ]


def _became(plain: Plain, line: str) -> str:
    symbol, *rest = line.split(",")
    if len(rest) < 2:
        return "dead_letter"
    moment = datetime.fromisoformat(f"{rest[0]}+05:30")
    return plain.take(int(moment.timestamp() * 1000), symbol, float(rest[1]))
