"""`streamer verify` on what a real daemon has published."""

import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth, tick
from tests.e2e.harness import Service
from tests.e2e.test_adjust import adjust
from tests.support import CHECKOUT, eventually


def run(service: Service, *arguments: str, settings: dict[str, Any] | None) -> subprocess.CompletedProcess[str]:
    """The command, on the daemon's configuration, or others."""
    config = service.folder / "verify.json"
    config.write_text(json.dumps(settings or service.settings))
    command = [sys.executable, "-m", "streamer", "verify", *arguments, "-c", str(config)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


async def verify(service: Service, *arguments: str, settings: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Exit code and answer; with the daemon's configuration, or others."""
    done = await asyncio.to_thread(run, service, "--json", *arguments, settings=settings)
    assert done.stdout, done.stderr
    found = {each["stream"]: each for each in json.loads(done.stdout)["streams"]}
    return done.returncode, found


async def refused(service: Service, *arguments: str, settings: dict[str, Any] | None = None) -> str:
    """What it says where there is nothing to judge."""
    done = await asyncio.to_thread(run, service, *arguments, settings=settings)
    assert done.returncode in (2, 3), done.stderr
    return done.stderr


async def served(bootstrap: str, folder: Path, prices: str, feed: Feed) -> tuple[Service, str]:
    """A daemon that has trained, swapped and been killed once, and is stopped; with the model of the first swap."""
    service = Service(bootstrap, folder, prices, gate={"tolerance": 1.0}, kafka={"instance_id": "one"})
    messages = sawtooth(400)
    async with service:
        await feed.send(messages[:300])
        swap = (await eventually(lambda: service.swaps(f"{prices}-0"), timeout=60))[0]
        await feed.send(messages[300:350])
        await service.caught_up(350)
        await service.kill()
        service.start()
        await service.ready()
        await feed.send(messages[350:])
        await service.caught_up(400)
        assert await service.terminate() == 0
    return service, swap["model"]


async def publish_again(service: Service, offset: int, by: float = 0.0) -> None:
    """Publish the forecast of an input offset once more, `by` so much higher."""
    record = next(r for r in (await service.published()).forecasts if json.loads(r.value)["source"]["offset"] == offset)
    value = json.loads(record.value)
    value["yhat"]["a"] += by
    data = json.dumps(value).encode() if by else record.value
    producer = AIOKafkaProducer(bootstrap_servers=service.bootstrap)
    await producer.start()
    await producer.send_and_wait(record.topic, data, record.key, 0, headers=list(record.headers))
    await producer.stop()


async def expire(service: Service, before: int, role: str = "prices") -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=service.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(service.topic(role), 0): RecordsToDelete(before_offset=before)})
    await admin.close()


async def test_what_was_published_is_computed_again_and_what_was_not_made_by_us_is_found(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    service, model = await served(bootstrap, tmp_path, prices, Feed(bootstrap, prices))

    code, found = await verify(service)
    assert (code, found[stream]["judged"], found[stream]["equal"], found[stream]["unjudged"]) == (0, 400, 400, {})
    assert found[stream]["comparison"] == "bits"

    code, found = await verify(service, "--from", "380", "--to", "390")
    assert (code, found[stream]["judged"], found[stream]["equal"]) == (0, 10, 10)

    code, found = await verify(service, "--stream", "another")
    assert (code, found) == (3, {})
    for arguments, said in (
        (("--from", "9", "--to", "3"), "--from 9 is not before --to 3"),
        (("--from", "5000"), "there is nothing from offset 5000 on, as the group has come to 400"),
        (("--stream", "another"), "--stream: there is no record of 'another' among those"),
    ):
        assert said in await refused(service, *arguments)
    elsewhere = service.settings | {"models": {"url": str(tmp_path / "elsewhere")}}
    said = await refused(service, settings=elsewhere)
    assert f"models.url: {tmp_path / 'elsewhere'} holds no streams: name the store of the daemon" in said

    other = service.settings | {"feed": {"window": 25}}
    code, found = await verify(service, settings=other)
    assert code == 3
    assert all("other settings (window)" in reason for reason in found[stream]["unjudged"])

    await publish_again(service, 350)
    code, found = await verify(service)
    assert (code, found[stream]["doubled"], found[stream]["again"]) == (1, 1, [350])
    at_least_once = service.settings | {"kafka": service.settings["kafka"] | {"delivery": "at_least_once"}}
    assert (await verify(service, settings=at_least_once))[0] == 0

    await publish_again(service, 360, by=1.0)
    code, found = await verify(service)
    assert (code, found[stream]["different"], found[stream]["equal"]) == (1, 1, 400)
    assert [each["offset"] for each in found[stream]["differences"]] == [360]

    await expire(service, 200)
    code, found = await verify(service, "--to", "350")
    assert code == 0
    assert found[stream]["unjudged"]["its input has expired"] == 200
    assert found[stream]["judged"] >= 50, "from the checkpoint of the first swap on"
    assert found[stream]["judged"] + sum(found[stream]["unjudged"].values()) == 350

    gone = next(r for r in (await service.published()).forecasts if json.loads(r.value)["source"]["offset"] == 320)
    await expire(service, gone.offset, "forecasts")
    code, found = await verify(service, "--to", "350")
    assert code == 0
    assert found[stream]["unjudged"].pop("what was published of it has expired") > 0
    assert found[stream]["judged"] == found[stream]["equal"] == 30

    (Path(service.settings["models"]["url"]) / stream / model / "manifest.json").unlink()
    _, found = await verify(service, "--from", "345", "--to", "350")
    assert found[stream]["judged"] == 0
    assert all(model in reason for reason in found[stream]["unjudged"])


def in_parts(rows: int, key: bytes, partition: int) -> list[Message]:
    """One symbol a message: those of a step after each other."""
    vectors = [json.loads(message.value or b"")["prices"] for message in sawtooth(rows)]
    return [
        tick(row, {symbol: price}, key=key, partition=partition)
        for row, vector in enumerate(vectors)
        for symbol, price in vector.items()
    ]


async def test_streams_of_two_partitions_that_were_assembled_split_and_sent_again_are_computed_again(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    service = Service(
        bootstrap,
        tmp_path,
        prices,
        kafka={"delivery": "at_least_once", "max_poll_records": 7, "instance_id": "one"},
        input={"assemble": "last"},
        retrain={"every": 0},
        state={"every": 30},
    )
    first, second = in_parts(200, b"first", 0), in_parts(200, b"second", 1)
    feed = Feed(bootstrap, prices)
    async with service:
        await feed.send(first[:200])
        done = await asyncio.to_thread(adjust, service, "a", "--split", "2:1", "--stream", "first")
        assert done.returncode == 0, done.stderr
        async with feed.flowing([*first[200:], *second], rate=300):
            for sent in (300, 450, 600):
                await eventually(partial(feed.has_sent, sent))
                await service.kill()
                service.start()
                await service.ready()
            await eventually(lambda: feed.has_sent(800))
        await service.caught_up(801)
        assert await service.terminate() == 0

    code, found = await verify(service)
    assert code == 0, found
    assert {stream: each["judged"] for stream, each in found.items()} == {"first": 401, "second": 400}
    assert all(each["forecasts"] == each["equal"] > 190 for each in found.values())
    assert not any(each["unjudged"] for each in found.values())
    code, found = await verify(service, "--stream", "second", "--partition", "1", "--from", "100")
    assert (code, list(found), found["second"]["judged"]) == (0, ["second"], 300)
