"""The broker, or a topic, goes away, and comes back or not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, sawtooth
from tests.e2e.harness import Service, until
from tests.support import KafkaBroker, MissingProgramsError, eventually

PRICES = "prices"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, running."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")
    yield broker
    broker.stop()


async def with_prices(broker: KafkaBroker) -> str:
    """Make the input topic; returns the broker's address."""
    address = broker.start()  # it runs: this only asks for the address
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(PRICES, 1, 1)])
    await admin.close()
    return address


async def test_asked_to_stop_while_the_broker_is_away_it_ends_in_order(broker: KafkaBroker, tmp_path: Path) -> None:
    address = await with_prices(broker)
    feed = Feed(address, PRICES)
    await feed.send(sawtooth(50))
    async with Service(address, tmp_path, PRICES, retrain={"every": 0}) as service:
        await service.caught_up(50)
        broker.stop(keep_data=True)
        await eventually(lambda: "Unable connect to node" in service.stderr())
        assert await service.terminate() == 0
        assert service.events("stopped")
        assert "Traceback" not in service.stderr()


async def test_while_the_broker_is_away_it_is_alive_and_not_ready(broker: KafkaBroker, tmp_path: Path) -> None:
    """With no tick under way either, of which it would notice."""
    address = await with_prices(broker)
    feed = Feed(address, PRICES)
    await feed.send(sawtooth(50))
    async with Service(address, tmp_path, PRICES, retrain={"every": 0}) as service:

        async def answers(readiness: int) -> bool:
            assert (await service.get("/livez"))[0] == 200
            return (await service.get("/readyz"))[0] == readiness

        await service.caught_up(50)
        await until(lambda: answers(200))
        broker.stop(keep_data=True)
        await until(lambda: answers(503))
        assert '"failing": ["broker"]' in (await service.get("/readyz"))[1]
        broker.start()
        await until(lambda: answers(200))


async def test_a_broker_that_comes_back_finds_it_where_it_was(broker: KafkaBroker, tmp_path: Path) -> None:
    """Away while a batch is under way, which is done again."""
    address = await with_prices(broker)
    feed, messages = Feed(address, PRICES), sawtooth(20_100)
    await feed.send(messages[:20_000])
    async with Service(address, tmp_path, PRICES, retrain={"every": 0}) as service:
        await service.logged("partition serves")
        broker.stop(keep_data=True)
        await service.logged("partition begins anew")
        assert (await service.get("/livez"))[0] == 200
        broker.start()
        await feed.send(messages[20_000:])
        await service.caught_up(len(feed.sent))
        published = await service.published()
        assert await service.terminate() == 0
    assert sorted(published.forecast_values()) == feed.sent


async def delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


async def test_an_output_topic_that_is_deleted_is_made_anew_and_no_offset_left_out(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(200)
    await feed.send(messages[:60])
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as service:
        await service.caught_up(60)
        await delete(bootstrap, service.topic("state"))
        await feed.send(messages[60:])
        await service.caught_up(200)
        published = await service.published()
    assert sorted(published.forecast_values()) == feed.sent


async def test_an_output_topic_that_is_deleted_and_may_not_be_made_ends_the_daemon_with_its_name(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    outputs = {role: await topics.create(role) for role in ("forecasts", "state", "dead_letters")}
    feed, messages = Feed(bootstrap, prices), sawtooth(200)
    await feed.send(messages[:50])
    kafka = {"topics": outputs, "create_topics": False}
    async with Service(bootstrap, tmp_path, prices, kafka=kafka, retrain={"every": 0}) as service:
        await service.caught_up(50)
        await delete(bootstrap, outputs["forecasts"])
        await feed.send(messages[50:])
        assert await service.exited() == 3
    assert repr(outputs["forecasts"]) in service.stderr().splitlines()[-1]
