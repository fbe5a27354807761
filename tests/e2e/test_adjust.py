"""A live run in which one symbol is split as announced, one without a word, one joins, and one is gone for a day."""

import asyncio
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Published, tick
from tests.e2e.harness import Service
from tests.support import CHECKOUT, eventually

TRAINED, ANNOUNCED, SPLIT, JOINS, RETRAINED, ROWS = 300, 800, 1_100, 1_300, 2_500, 2_900
LEAVES, BACK = 600, 600 + 1_440
WITHIN = 100  # ticks, after which the error has to be what it was
NEVER = 10**6
TOKEN = "a-token-of-the-tests"


def prices() -> list[dict[str, float]]:
    """What each symbol costs in each row: a walk under noise, of which half is taken back with the next tick."""
    draw = random.Random(3)
    level, rows = dict.fromkeys("abcde", 0.0), []
    for row in range(ROWS):
        level = {name: at + draw.gauss(0, 1e-4) for name, at in level.items()}
        noisy = {name: 100 * math.exp(at + draw.gauss(0, 1e-3)) for name, at in level.items()}
        if row >= ANNOUNCED:
            noisy["a"] /= 4
        if row >= SPLIT:
            noisy["b"] /= 4
        if LEAVES <= row < BACK:
            del noisy["c"]
        if row < JOINS:
            del noisy["e"]
        rows.append(noisy)
    return rows


def adjust(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`streamer adjust` with the daemon's configuration."""
    command = [sys.executable, "-m", "streamer", "adjust", *arguments, "-c", str(service.folder / "config.json")]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**service.environment, "PATH": ""}, capture_output=True, text=True, check=False
    )


def ratio(published: Published, rows: list[dict[str, float]], symbol: str, first: int, last: int) -> float:
    """RMSE of what was published for the rows from `first` to before `last` over the last price's."""
    served = persistence = 0.0
    values = {value["target"]: value for value in published.values()}
    by_row = sorted(values)
    for row in range(first, last):
        value = values[by_row[row - 1]]
        if symbol in rows[row] and symbol in value["yhat"]:
            served += (value["yhat"][symbol] - rows[row][symbol]) ** 2
            persistence += (value["last"][symbol] - rows[row][symbol]) ** 2
    return math.sqrt(served / persistence)


@pytest.mark.timeout(240)  # a training, on a machine that may be busy
async def test_forecasts_are_finite_throughout_and_soon_as_good_as_before(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    topic = await topics.create("prices")
    rows = prices()
    messages: list[Message] = [tick(number, row) for number, row in enumerate(rows)]
    service = Service(bootstrap, tmp_path, topic, retrain={"first": TRAINED, "every": NEVER, "drift": 0})
    service.environment["STREAMER_HTTP__TOKEN"] = TOKEN
    feed = Feed(bootstrap, topic)
    async with service:
        await feed.send(messages[:TRAINED])
        await eventually(lambda: service.events("model serves"), timeout=120)
        await feed.send(messages[TRAINED:ANNOUNCED])
        done = await asyncio.to_thread(adjust, service, "a", "--split", "4:1")
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            f'sent {{"symbol": "a", "ratio": 0.25}} to stream {topic}-0, as {topic}-0 offset {ANNOUNCED}\n'
        )
        await feed.send(messages[ANNOUNCED:SPLIT])
        await service.caught_up(SPLIT + 1)
        said = await service.logged("symbol adjusted")
        assert (said["symbol"], said["ratio"], said["name"]) == ("a", 0.25, "a")
        assert (await service.metrics()).total("streamer_ticks_total", status="adjusted") == 1
        await service.kill()  # the split is in the replay, or in the snapshot: once in either
        service.start()
        await feed.send(messages[SPLIT:RETRAINED])
        await service.caught_up(RETRAINED + 1)
        assert (await service.post("/-/retrain", TOKEN))[0] == 200
        await eventually(lambda: service.events("model serves"), timeout=120)
        await feed.send(messages[RETRAINED:])
        await service.caught_up(ROWS + 1)
        published = await service.published()

    values = published.values()
    assert published.dead_letters == []
    assert [value["source"]["offset"] for value in values] == [n for n in range(ROWS + 1) if n != ANNOUNCED]
    figures = [x for value in values for part in ("yhat", "yhat_lower", "yhat_upper") for x in value[part].values()]
    assert all(math.isfinite(figure) for figure in figures)
    assert "e" in values[JOINS]["yhat"]
    assert "e" not in values[JOINS - 1]["yhat"]
    assert values[BACK - 1]["last"]["c"] == rows[LEAVES - 1]["c"]
    before = {name: ratio(published, rows, name, TRAINED + WITHIN, LEAVES) for name in "abcd"}
    assert max(before.values()) < 0.95, "or it would be persistence that is shown"
    after = {
        "a": (
            ANNOUNCED + 1,
            SPLIT,
        ),  # what was forecast of the first new price had gone out when the split was announced
        "b": (SPLIT + WITHIN, RETRAINED),
        "c": (BACK + WITHIN, RETRAINED),
        "d": (SPLIT, RETRAINED),
    }
    for name, (first, last) in after.items():
        assert ratio(published, rows, name, first, last) < 1.05 * before[name], name
    assert ratio(published, rows, "e", JOINS + 1, RETRAINED) == 1.0, "until the next training it is the last price"
    assert ratio(published, rows, "e", RETRAINED + 1, ROWS) < 0.95


async def test_one_that_cannot_be_heeded_is_a_dead_letter_and_a_topic_that_is_missing_is_said(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    topic = await topics.create("prices")
    service = Service(bootstrap, tmp_path, topic)
    async with service:
        await Feed(bootstrap, topic).send([tick(0, {"A": 1.0}, key=b"one")])
        done = await asyncio.to_thread(adjust, service, "B", "--rename", "C", "--stream", "one")
        assert done.returncode == 0, done.stderr
        await service.caught_up(2)
        [letter] = (await service.published()).dead_letters
    headers: dict[str, Any] = dict(letter.headers)
    assert headers["__streams.errors.exception"] == b"invalid_control"
    assert headers["__streams.errors.message"] == b"symbol: found 'B', the stream has A"
    assert json.loads(letter.value) == {"symbol": "B", "rename": "C"}

    service.environment["STREAMER_KAFKA__TOPICS__PRICES"] = "missing"
    done = await asyncio.to_thread(adjust, service, "A", "--ratio", "2")
    assert done.returncode == 3
    assert "topic 'missing' (kafka.topics.prices) does not exist" in done.stderr
