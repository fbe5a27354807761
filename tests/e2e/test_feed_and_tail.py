"""`streamer feed` and `streamer tail` as processes, on a real Kafka."""

import asyncio
import itertools
import json
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamer.codec import parse_time
from tests.e2e.conftest import Topics
from tests.support import CHECKOUT, eventually, read_all

HEADER = "timestamp,A,B\n"


@pytest.fixture
async def prices(bootstrap: str) -> AsyncIterator[str]:
    """Name of a topic that does not exist; it is deleted if the test made it."""
    name = f"prices-{uuid.uuid4().hex[:8]}"
    yield name
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    if name in await admin.list_topics():
        await admin.delete_topics([name])
    await admin.close()


def configuration(folder: Path, bootstrap: str, **kafka: object) -> Path:
    """A file with these keys of the section `kafka`; a topic by its key, as `prices="..."`."""
    names = {"prices", "forecasts", "state", "dead_letters"}
    topics = {key: value for key, value in kafka.items() if key in names}
    rest = {key: value for key, value in kafka.items() if key not in names}
    path = folder / "streamer.json"
    path.write_text(json.dumps({"kafka": {"bootstrap_servers": bootstrap, "topics": topics, **rest}}))
    return path


def minutes(folder: Path, rows: int) -> Path:
    path = folder / "prices.csv"
    lines = [
        f"2018-01-01T{row // 60:02}:{row % 60:02}:00Z,{100 + row},{'' if row % 2 else 0.5}\n" for row in range(rows)
    ]
    path.write_text(HEADER + "".join(lines))
    return path


async def start(*arguments: str | Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", *map(str, arguments), cwd=CHECKOUT, stdout=PIPE, stderr=PIPE
    )


async def run(*arguments: str | Path) -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    process = await start(*arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def said(process: Process, text: str) -> None:
    """Return once a line of standard error holds `text`."""
    assert process.stderr is not None
    async for line in process.stderr:
        if text in line.decode():
            return
    raise AssertionError(f"it ended without {text!r}")


async def test_feed_makes_the_topic_and_sends_each_row_once(tmp_path: Path, bootstrap: str, prices: str) -> None:
    config, data = configuration(tmp_path, bootstrap, prices=prices), minutes(tmp_path, 120)
    options = ("--rate", "0", "--keep-times", "--partitions", "2", "--partition", "1")
    code, out, err = await run("feed", "-c", config, data, *options)
    assert (code, out) == (0, ""), err
    assert "sent 120 of 120 ticks in" in err.splitlines()[-1]
    records = await read_all(bootstrap, prices)
    assert {record.partition for record in records} == {1}
    assert [json.loads(record.value) for record in records] == [
        {
            "ts": f"2018-01-01T{row // 60:02}:{row % 60:02}:00Z",
            "prices": {"A": 100.0 + row, "B": None if row % 2 else 0.5},
        }
        for row in range(120)
    ]


async def test_feed_live_begins_with_the_step_of_now(tmp_path: Path, bootstrap: str, prices: str) -> None:
    config, data = configuration(tmp_path, bootstrap, prices=prices), minutes(tmp_path, 60)
    feed = await start("feed", "-c", config, data, "--live")
    records = await eventually(lambda: read_all(bootstrap, prices), timeout=30, interval=0.2)
    time = parse_time(json.loads(records[0].value)["ts"])
    assert time % 60_000 == 0
    assert time <= records[0].timestamp < time + 120_000
    feed.send_signal(signal.SIGINT)
    await feed.communicate()
    assert feed.returncode == 0


async def test_feed_shifts_times_onto_now_and_keeps_their_spacing(tmp_path: Path, bootstrap: str, prices: str) -> None:
    """The last tick is less than a step (and the time this test took) old, and ahead of no clock."""
    config, data = configuration(tmp_path, bootstrap, prices=prices), minutes(tmp_path, 90)
    code, _, err = await run("feed", "-c", config, data, "--rate", "0", "--key", "eu", "--limit", "60")
    assert code == 0, err
    code, out, err = await run(
        "tail", "-c", config, "--topic", "prices", "--from", "earliest", "--limit", "60", "--json"
    )
    assert code == 0, err
    records = await read_all(bootstrap, prices)
    assert [record.value.decode() for record in records] == out.splitlines()
    assert {record.key for record in records} == {b"eu"}
    times = [parse_time(json.loads(line)["ts"]) for line in out.splitlines()]
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {60_000}
    assert times[-1] % 60_000 == 0
    assert times[-1] <= records[0].timestamp < times[-1] + 120_000


async def test_feed_ends_at_ctrl_c_and_says_how_many_were_sent(tmp_path: Path, bootstrap: str, prices: str) -> None:
    config, data = configuration(tmp_path, bootstrap, prices=prices), minutes(tmp_path, 600)
    process = await start("feed", "-c", config, data, "--rate", "20")
    await said(process, "feeding 600 ticks")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 0
    held = len(await read_all(bootstrap, prices))
    assert f"interrupted: sent {held} of 600 ticks" in err.decode()


async def test_feed_refuses_a_missing_topic_where_none_may_be_made(tmp_path: Path, bootstrap: str, prices: str) -> None:
    config = configuration(tmp_path, bootstrap, prices=prices, create_topics=False)
    code, _, err = await run("feed", "-c", config, minutes(tmp_path, 2))
    assert code == 3
    assert f"topic '{prices}' (kafka.topics.prices) does not exist" in err


async def test_tail_shows_what_is_committed_and_nothing_else(tmp_path: Path, bootstrap: str, topics: Topics) -> None:
    forecasts = await topics.create("forecasts", partitions=2)
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"test-{forecasts}", retry_backoff_ms=5
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(forecasts, forecast(0, "undone"), partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(forecasts, forecast(1, "kept"), partition=0)
    config = configuration(tmp_path, bootstrap, forecasts=forecasts)
    code, out, err = await run("tail", "-c", config, "--from", "earliest", "--limit", "1")
    assert code == 0, err
    [line] = out.splitlines()
    assert "kept" in line
    assert line.startswith("2018-01-01T00:01:00Z -> ")


async def test_tail_shows_what_comes_until_ctrl_c(tmp_path: Path, bootstrap: str, topics: Topics) -> None:
    forecasts = await topics.create("forecasts")
    config = configuration(tmp_path, bootstrap, forecasts=forecasts)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(forecasts, forecast(0, "before"))
        process = await start("tail", "-c", config, "--json")
        await said(process, f"watching {forecasts}")
        await producer.send_and_wait(forecasts, forecast(1, "after"))
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line == forecast(1, "after") + b"\n"
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out) == (0, b""), err


async def test_tail_refuses_a_missing_topic_and_does_not_make_it(tmp_path: Path, bootstrap: str, prices: str) -> None:
    config = configuration(tmp_path, bootstrap, forecasts=prices)
    code, out, err = await run("tail", "-c", config)
    assert (code, out) == (3, "")
    assert f"topic '{prices}' (kafka.topics.forecasts) does not exist" in err
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    names = await admin.list_topics()
    await admin.close()
    assert prices not in names


def forecast(row: int, model: str) -> bytes:
    levels = {name: {"A": 1.0} for name in ("yhat", "yhat_lower", "yhat_upper", "last")}
    times = {"as_of": f"2018-01-01T00:{row:02}:00Z", "target": f"2018-01-01T00:{row + 1:02}:00Z"}
    return json.dumps({"stream": "prices-0", "model": model, **times, **levels}).encode()
