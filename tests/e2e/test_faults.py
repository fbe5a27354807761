"""Faults of the log, the disk and the training process: each has an answer, and a line that says so."""

import os
import resource
import signal
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, sawtooth
from tests.e2e.harness import Service
from tests.support import read_all

NO_TRAINING = {"every": 0}


async def expire(bootstrap: str, topic: str, before: int) -> None:
    """What retention does: the records before an offset are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()


async def test_records_that_expired_while_it_was_stopped_are_told_and_the_next_are_served(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(250)
    async with Service(bootstrap, tmp_path, prices, retrain=NO_TRAINING) as service:
        await feed.send(messages[:100])
        await service.caught_up(100)
        assert await service.terminate() == 0
        await feed.send(messages[100:200])
        await expire(bootstrap, prices, 130)

        service.start()
        assert (await service.logged("records expired unread"))["lost"] == 30
        await feed.send(messages[200:])
        await service.caught_up(250)
        published = await service.published()
    assert sorted(published.forecast_values()) == [*feed.sent[:100], *feed.sent[130:]]


async def test_where_the_log_of_its_last_ticks_expired_it_goes_on_with_the_snapshot_and_what_is_left(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Killed, its newest snapshot is older than the committed offset, and so are records that have expired."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(150)
    async with Service(bootstrap, tmp_path, prices, retrain=NO_TRAINING, state={"every": 1000}) as service:
        await feed.send(messages[:100])
        await service.caught_up(100)
        await service.kill()
        await expire(bootstrap, prices, 90)

        service.start()
        await feed.send(messages[100:])
        await service.caught_up(150)
        published = await service.published()
    assert sorted(published.forecast_values()) == feed.sent


async def test_a_snapshot_that_is_none_is_refused_and_the_stream_rebuilt_from_the_log(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(200)
    async with Service(bootstrap, tmp_path, prices, retrain=NO_TRAINING) as service:
        await feed.send(messages[:150])
        await service.caught_up(150)
        assert await service.terminate() == 0
        state = service.topic("state")
        newest = (await read_all(bootstrap, state))[-1]
        torn = newest.value[: len(newest.value) // 2]
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait(state, torn, newest.key, partition=0)

        service.start()
        refused = await service.logged("snapshot refused, the stream is rebuilt from the log")
        assert "checksum" in refused["reason"]
        await feed.send(messages[150:])
        await service.caught_up(200)
        published = await service.published()
    undisturbed = Service(bootstrap, tmp_path, prices, retrain=NO_TRAINING)
    async with undisturbed:
        await undisturbed.caught_up(200)
        expected = await undisturbed.published()
    assert [record.value for record in published.forecasts] == [record.value for record in expected.forecasts]


async def test_what_it_learned_from_outlives_the_log(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """Retention is shorter than the history: the last training's input fills it up after a restart."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(520)
    async with Service(bootstrap, tmp_path, prices, retrain={"first": 300, "every": 200}) as service:
        await feed.send(messages[:300])
        await service.retrained("promoted")
        await feed.send(messages[300:400])
        await service.caught_up(400)
        assert await service.terminate() == 0
        await expire(bootstrap, prices, 390)

        service.start()
        back = await service.logged("history goes back beyond the log")
        short = await service.logged("the log is too short to learn from as much as before")
        await feed.send(messages[400:])
        training = await service.logged("training")
    assert back["ticks"] >= 320, "the first 300, and the ring of 20"
    assert back["ticks"] + short["lost"] == 400
    assert training["ticks"] >= back["ticks"] + 100


async def test_on_a_full_disk_trainings_fail_and_serving_goes_on_until_there_is_room(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """A limit on the size of the files that it writes: its log cannot grow any more, either."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(800)
    retrain = {"first": 300, "every": 300}
    async with Service(bootstrap, tmp_path, prices, retrain=retrain) as service:
        await feed.send(messages[:250])
        await service.caught_up(250)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
        await feed.send(messages[250:500])
        await service.retrained("failed")
        await service.caught_up(500)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await feed.send(messages[500:700])
        await service.retrained("promoted")
        await feed.send(messages[700:])
        await service.caught_up(800)
        published = await service.published()
    assert sorted(published.forecast_values()) == feed.sent
    assert published.models()[0] == "persistence"
    assert len(published.models()) == 2


async def test_a_training_that_needs_more_memory_than_it_may_have_fails_and_says_so(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    async with Service(bootstrap, tmp_path, prices, retrain={"memory_limit": 256 * 2**20}) as service:
        await feed.send(sawtooth(310))
        failed = await service.logged("training failed, serving goes on as it was")
        assert "retrain.memory_limit" in failed["reason"]
        await service.caught_up(310)


async def test_a_training_that_hangs_is_ended(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    async with Service(bootstrap, tmp_path, prices, retrain={"time_limit": "5s"}) as service:
        await feed.send(sawtooth(310))
        trainer = await service.trainer()
        os.kill(trainer, signal.SIGSTOP)
        failed = await service.logged("training failed, serving goes on as it was")
        assert "retrain.time_limit, 5 s" in failed["reason"]
        assert trainer not in service.children()
        await service.caught_up(310)
