"""What operators do to groups, offsets and topics while the daemon is stopped."""

import struct
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka.admin import AdminClient

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, sawtooth
from tests.e2e.harness import Service, until
from tests.support import read_all


async def served(bootstrap: str, topics: Topics, tmp_path: Path, ticks: int) -> tuple[Service, Feed]:
    """A daemon that has dealt with so many ticks and was stopped in order."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    await feed.send(sawtooth(ticks))
    service = Service(bootstrap, tmp_path, prices, retrain={"every": 0})
    async with service:
        await service.caught_up(ticks)
        assert await service.terminate() == 0
    return service, feed


async def refusal(service: Service) -> str:
    """Start it; returns the line with which it ends."""
    async with service:
        assert await service.exited() == 3, service.stderr()
    return service.stderr().splitlines()[-1]


async def test_offsets_that_are_set_back_are_forecast_again(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """The snapshot is ahead of them: to go on from it would pass them over without an outcome."""
    service, feed = await served(bootstrap, topics, tmp_path, 200)
    before = (await service.published()).forecasts
    group = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=service.name, enable_auto_commit=False)
    partition = TopicPartition(service.topic("prices"), 0)
    async with group:
        group.assign([partition])
        await group.commit({partition: 120})
    async with service:
        await service.logged("snapshot refused, the stream is rebuilt from the log")
        await service.caught_up(len(feed.sent))
        again = (await service.published()).forecasts[len(before) :]
    assert [(r.key, r.value) for r in again] == [(r.key, r.value) for r in before[120:]]


async def test_a_group_whose_offsets_are_gone_begins_as_configured_and_remembers_nothing(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    service, feed = await served(bootstrap, topics, tmp_path, 60)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_consumer_groups([service.name]).values():
        deleted.result(timeout=10)
    async with service:
        await service.logged("the group's offsets are gone: it begins as kafka.start says")
        await service.caught_up(60)
        published = await service.published()
        assert await service.terminate() == 0
    once = [record.value for record in published.forecasts[:60]]
    assert [record.value for record in published.forecasts[60:]] == once
    assert len(once) == len(feed.sent)


async def test_the_state_of_another_group_is_refused_and_not_overwritten(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    service, _ = await served(bootstrap, topics, tmp_path, 60)
    state = service.topic("state")
    before = await read_all(bootstrap, state)
    other = Service(bootstrap, tmp_path, service.topic("prices"), kafka={"topics": {"state": state}})
    line = await refusal(other)
    assert repr(state) in line
    assert "kafka.topics.state" in line
    assert await read_all(bootstrap, state) == before


async def test_the_snapshot_of_a_newer_streamer_is_left_alone_by_a_group_that_begins(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    service, _ = await served(bootstrap, topics, tmp_path, 60)
    state = service.topic("state")
    newest = (await read_all(bootstrap, state))[-1]
    newer = newest.value[:8] + struct.pack("<H", 99) + newest.value[10:]  # behind the magic stands the version
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(state, newer, newest.key, partition=0)
    service.settings["kafka"]["group_id"] += "-new"
    assert "upgrade streamer" in await refusal(service)
    assert (await read_all(bootstrap, state))[-1].value == newer


async def test_records_of_others_in_the_state_topic_are_left_alone(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    state = await topics.create("not-ours")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(state, b"of others", b"their key", partition=0)
    prices = await topics.create("prices")
    await Feed(bootstrap, prices).send(sawtooth(10))
    service = Service(bootstrap, tmp_path, prices, kafka={"topics": {"state": state}}, retrain={"every": 0})
    async with service:
        await service.caught_up(10)
        assert await service.terminate() == 0
    keys = [record.key.decode() for record in await read_all(bootstrap, state)]
    assert keys[0] == "their key"
    assert set(keys[1:]) == {f"{prices}-0"}


async def test_a_topic_that_was_made_anew_is_refused(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """Its offsets begin at 0 again, and so would the ids of forecasts."""
    service, _ = await served(bootstrap, topics, tmp_path, 60)
    prices = service.topic("prices")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([prices])

    async def is_made() -> bool:
        answer = await admin.create_topics([NewTopic(prices, 1, 1)])
        return [code for _, code, *_ in answer.topic_errors] == [0]

    await until(is_made)
    await admin.close()
    await Feed(bootstrap, prices).send(sawtooth(10))
    line = await refusal(service)
    assert f"{prices}-0 ends at offset 10" in line
    assert "kafka.group_id" in line
