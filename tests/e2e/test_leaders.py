"""Leaders that move from one broker to another, or are gone for a while, in a cluster of two."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from streamer.service.partition import Replay
from streamer.service.restore import offset_to_commit
from tests.e2e.feeding import Feed, sawtooth
from tests.e2e.harness import Service, until
from tests.support import KafkaBroker, MissingProgramsError, free_port

REPLICATED = """
offsets.topic.replication.factor=2
transaction.state.log.replication.factor=2
"""


ONE_OF_EACH = """
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
"""


@dataclass(frozen=True)
class Cluster:
    """Two brokers; the first is the controller too. bootstrap: the first's address. second: may be stopped."""

    bootstrap: str
    second: KafkaBroker


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    try:
        yield from _started(tmp_path, REPLICATED)
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")


@pytest.fixture
def unreplicated(tmp_path: Path) -> Iterator[Cluster]:
    """As `cluster`, but what is on one broker is on no other, and each internal topic on one of them."""
    try:
        yield from _started(tmp_path, ONE_OF_EACH)
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")


def _started(folder: Path, properties: str) -> Iterator[Cluster]:
    common, own = folder / "common.properties", folder / "second.properties"
    common.write_text(properties)
    first = KafkaBroker(folder / "first", common)
    bootstrap = first.start()
    settings = dict(line.split("=", 1) for line in _lines(folder / "first" / "server.properties"))
    port = free_port()
    own.write_text(
        f"{properties}process.roles=broker\nnode.id=2\nlisteners=PLAINTEXT://127.0.0.1:{port}\n"
        f"controller.quorum.voters={settings['controller.quorum.voters']}\n"
    )
    second = KafkaBroker(folder / "second", own)
    second.start(port)
    yield Cluster(bootstrap, second)
    if second.is_running():
        second.stop()
    first.stop()


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "=" in line]


async def _described(admin: AIOKafkaAdminClient, topics: list[str]) -> list[dict[str, Any]]:
    """The admin client asks any broker that it knows of, the one that was just stopped included."""
    while True:
        with contextlib.suppress(KafkaConnectionError, NodeNotReadyError):
            described: list[dict[str, Any]] = await admin.describe_topics(topics)
            return described
        await asyncio.sleep(0.1)


async def leaders(admin: AIOKafkaAdminClient, topics: list[str]) -> set[int]:
    """The brokers that lead their partitions now."""
    described = await _described(admin, topics)
    return {partition["leader"] for topic in described for partition in topic["partitions"]}


async def in_sync(admin: AIOKafkaAdminClient, topics: list[str]) -> bool:
    """Whether both brokers have all that was written."""
    described = await _described(admin, topics)
    return all(len(partition["isr"]) == 2 for topic in described for partition in topic["partitions"])


@pytest.mark.timeout(240)
async def test_leaders_that_move_to_another_broker_and_back_cost_no_offset_its_outcome(
    cluster: Cluster, tmp_path: Path
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    service = Service(cluster.bootstrap, tmp_path, "prices", retrain={"every": 0}, kafka={"replication_factor": 2})
    topics = [service.topic(role) for role in ("prices", "forecasts", "state", "dead_letters")]
    await admin.create_topics([NewTopic(topic, -1, -1, replica_assignments={0: [2, 1]}) for topic in topics])
    feed = Feed(cluster.bootstrap, "prices")
    try:
        async with service, feed.flowing(sawtooth(100_000), rate=40):
            await service.caught_up(100)
            assert await leaders(admin, topics) == {2}
            cluster.second.stop(keep_data=True)
            assert await leaders(admin, topics) == {1}  # an orderly end hands them over first
            await service.caught_up(len(feed.sent) + 100)
            cluster.second.start()
            await until(lambda: in_sync(admin, topics))
            await service.caught_up(len(feed.sent) + 50)
        service.start()
        await service.caught_up(len(feed.sent))
        published = await service.published()
    finally:
        await service.kill()
        await admin.close()
    assert sorted(published.forecast_values()) == feed.sent


@pytest.mark.timeout(240)
async def test_a_transaction_that_the_broker_forgot_to_end_is_aborted_and_done_again(
    unreplicated: Cluster, tmp_path: Path
) -> None:
    """Its coordinator holds it for committed, but output and offset were without a leader (KAFKA-20734)."""
    bootstrap, second = unreplicated.bootstrap, unreplicated.second
    service = Service(bootstrap, tmp_path, "prices", retrain={"every": 0})
    outputs = [service.topic(role) for role in ("forecasts", "state", "dead_letters")]
    owner = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{service.name}.prices.0")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    feed = Feed(bootstrap, "prices")
    messages = sawtooth(60)
    try:
        await _place(
            admin, {"prices": 1, "__transaction_state": 1, "__consumer_offsets": 2, **dict.fromkeys(outputs, 2)}
        )
        service.start()
        await feed.send(messages[:50])
        await service.caught_up(50)
        assert await service.terminate() == 0

        await feed.send(messages[50:])
        await owner.start()
        await owner.begin_transaction()
        for offset in range(50, 60):
            value = {"source": {"partition": 0, "offset": offset}}
            await owner.send_and_wait(service.topic("forecasts"), json.dumps(value).encode(), partition=0)
        committed = offset_to_commit(60, Replay(50))
        await owner.send_offsets_to_transaction({TopicPartition("prices", 0): committed}, service.name)
        second.stop(keep_data=True)
        await until(lambda: _led_by(admin, outputs, {-1}))
        await owner.commit_transaction()
        await owner.stop()
        second.start()
        await until(lambda: _led_by(admin, outputs, {2}))

        service.start()
        await service.caught_up(60)
        published = await service.published()
    finally:
        await service.kill()
        await owner.stop()
        await admin.close()
    assert sorted(published.forecast_values()) == [(0, offset) for offset in range(60)]
    # A Kafka that has mended it has no need of this, and the repair can go.
    assert service.events("the broker has forgotten to end a transaction, which is aborted now")


async def _place(admin: AIOKafkaAdminClient, brokers: Mapping[str, int]) -> None:
    """Make topics, the internal ones too, each on the broker given."""
    internal = {"cleanup.policy": "compact"}
    await admin.create_topics(
        [
            NewTopic(
                topic, -1, -1, replica_assignments={0: [broker]}, topic_configs=internal if topic[0] == "_" else {}
            )
            for topic, broker in brokers.items()
        ]
    )


async def _led_by(admin: AIOKafkaAdminClient, topics: list[str], brokers: set[int]) -> bool:
    return await leaders(admin, topics) == brokers
