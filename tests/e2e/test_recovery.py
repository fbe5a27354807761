"""Whatever ends a daemon, and whoever takes over: one outcome for each input offset, and the same forecasts."""

import asyncio
import json
import os
import random
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Offset, Published, random_walk, sawtooth
from tests.e2e.harness import PATIENCE, Service, holds_uncommitted, until
from tests.support import eventually, read_all


async def exactly_once(service: Service, feed: Feed) -> Published:
    """Wait until all that was fed is dealt with; every offset must have one forecast, in order of offset."""
    await service.caught_up(len(feed.sent))
    published = await service.published()
    assert sorted(published.forecast_values()) == sorted(feed.sent)
    sources: list[Offset] = [(v["source"]["partition"], v["source"]["offset"]) for v in published.values()]
    assert sources == sorted(sources)
    return published


def two_streams(rows: int) -> list[Message]:
    """Two sawtooths under two keys of one partition, in turn; the second with missing ticks and blank prices."""
    draw, second = random.Random(3), []
    for message in sawtooth(rows, seed=2, key=b"two"):
        body = json.loads(message.value or b"")
        kind = draw.random()
        if kind < 0.02:
            continue
        if kind < 0.04:
            body["prices"][draw.choice("ab")] = None
        second.append(replace(message, value=json.dumps(body).encode()))
    pairs = zip(sawtooth(rows, seed=1, key=b"one"), second, strict=False)
    return [message for pair in pairs for message in pair]


def both_partitions(rows: int) -> list[Message]:
    """A random walk in each of two partitions, in turn."""
    pairs = zip(random_walk(rows, seed=3), random_walk(rows, seed=4, partition=1), strict=True)
    return [message for pair in pairs for message in pair]


@pytest.mark.slow
@pytest.mark.timeout(400)  # three trainings at least, at idle priority
async def test_killed_before_in_and_after_a_training_it_publishes_what_an_undisturbed_run_does(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """The undisturbed run is given the swaps that the first one recorded, and no training of its own."""
    seed = int(os.environ.get("STREAMER_TEST_SEED", secrets.randbelow(10**6)))
    print(f"STREAMER_TEST_SEED={seed}")
    draw = random.Random(seed)
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    static = {"instance_id": "one"}  # after a kill it gets its partition back without waiting for a time-out
    service = Service(bootstrap, tmp_path, prices, kafka=static, retrain={"first": 300, "every": 500})

    async def killed_and_started() -> None:
        """At any of the next ticks, in whatever the daemon then does with it."""
        await eventually(partial(feed.has_sent, len(feed.sent) + draw.randrange(150)), timeout=60)
        await service.kill()
        service.start()

    async with service:
        await service.ready()
        async with feed.flowing(two_streams(20_000), rate=100):
            await killed_and_started()
            await service.trainer()
            await killed_and_started()
            await eventually(lambda: service.swaps("one") or service.swaps("two"), timeout=150)
            await killed_and_started()  # with a model in service, and for the other stream perhaps one in training
            for stream in ("one", "two"):
                await eventually(partial(service.swaps, stream), timeout=150)
            served = len(feed.sent)
            await eventually(partial(feed.has_sent, served + 400), timeout=60)
        disturbed = await exactly_once(service, feed)
        assert await service.terminate() == 0
    by_network = [value for value in disturbed.values() if value["model"] != "persistence"]
    assert {value["stream"] for value in by_network} == {"one", "two"}
    swaps = [swap["model"] for stream in ("one", "two") for swap in service.swaps(stream)]
    assert {value["model"] for value in by_network} <= set(swaps)

    undisturbed = Service(bootstrap, tmp_path, prices, retrain={"first": 300, "every": 500})
    undisturbed.arguments = ["--schedule", service.settings["models"]["url"]]
    async with undisturbed:
        again = await exactly_once(undisturbed, feed)
        assert (await undisturbed.metrics()).total("streamer_retrains_total") == 0
    assert again.forecast_values() == disturbed.forecast_values()


async def test_killed_with_a_transaction_open_it_neither_loses_nor_repeats_what_was_in_it(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Frozen again and again while it works off a backlog, until it is caught in the middle of a transaction."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    await feed.send(random_walk(8000))
    static = {"instance_id": "one"}
    async with Service(bootstrap, tmp_path, prices, kafka=static, retrain={"every": 0}) as service:
        await service.ready()

        async def caught_in_the_middle() -> bool:
            service.pause()
            if await asyncio.to_thread(holds_uncommitted, bootstrap, service.topic("forecasts")):
                return True
            service.resume()
            return False

        await until(caught_in_the_middle, interval=0.01)
        await service.kill()
        visible = len((await service.published()).forecasts)
        assert visible < len(feed.sent)
        service.start()
        await exactly_once(service, feed)


async def test_forecasts_and_committed_offset_become_visible_together(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Frozen at any moment of its work, it has published a forecast of exactly the messages that it has committed."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    await feed.send(random_walk(20_000))
    async with Service(bootstrap, tmp_path, prices, kafka={"max_poll_records": 50}, retrain={"every": 0}) as service:
        await service.ready()
        for _ in range(25):
            seen = await service.committed()
            service.pause()
            await until(lambda: visible_are_the_committed(service), interval=0.01)  # once the markers are written
            service.resume()
            await until(partial(moved_beyond, service, seen), interval=0.01)
        await exactly_once(service, feed)


async def visible_are_the_committed(service: Service) -> bool:
    """Whether as many forecasts can be read as messages are committed."""
    return len((await service.published()).forecasts) == await service.committed()


async def moved_beyond(service: Service, offset: int) -> bool:
    """Whether more messages are committed than `offset`."""
    return await service.committed() > offset


async def test_stopped_in_the_middle_it_ends_in_order_and_goes_on_where_it_was(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    feed, messages = Feed(bootstrap, prices), both_partitions(1000)
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as service:
        await service.ready()
        async with feed.flowing(messages, rate=200):
            await eventually(lambda: len(feed.sent) >= 200)
            deadline = 20.0  # daemon.shutdown_timeout
            assert await service.terminate(timeout=deadline) == 0
            assert service.events("stopped")
            assert not [event for event in service.events() if event["level"] in ("warning", "error")]
            assert not (await service.published()).dead_letters
            assert await service.committed() == len((await service.published()).forecasts)
            await eventually(lambda: len(feed.sent) >= 400)
            service.start()
            await service.ready()
            await eventually(lambda: len(feed.sent) >= 600)
        await exactly_once(service, feed)


async def test_a_second_member_shares_the_work_and_then_does_it_alone(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    feed, messages = Feed(bootstrap, prices), both_partitions(3000)
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as first:
        await first.ready()
        async with feed.flowing(messages, rate=200):
            await eventually(lambda: len(feed.sent) >= 200)
            async with first.sibling() as second:
                await second.ready()
                await serves(first, 1)
                await serves(second, 1)
                assert await first.terminate() == 0
                await serves(second, 2)
                fed = len(feed.sent)
                await eventually(lambda: len(feed.sent) >= fed + 200)
                await second.caught_up(fed)
    async with first.sibling() as third:
        await exactly_once(third, feed)


async def serves(service: Service, partitions: int) -> None:
    """Wait until the daemon owns so many partitions, restored."""

    async def owns() -> bool:
        scrape = await service.metrics()
        is_ready = (await service.get("/readyz"))[0] == 200
        return is_ready and scrape.total("streamer_assigned_partitions") == partitions

    await until(owns)


async def test_a_daemon_frozen_beyond_its_session_publishes_nothing_twice_when_it_thaws(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """The group has given its partitions to another; what it still believes to be its own, it cannot commit."""
    prices = await topics.create("prices", partitions=2)
    feed, messages = Feed(bootstrap, prices), both_partitions(5000)
    short = {"session_timeout": "2s", "transaction_timeout": "1s"}
    async with (
        Service(bootstrap, tmp_path, prices, kafka=short, retrain={"every": 0}) as first,
        feed.flowing(messages, rate=200),
    ):
        await first.ready()
        async with first.sibling() as second:
            await serves(second, 1)
            first.pause()
            await serves(second, 2)
            fed = len(feed.sent)
            await second.caught_up(fed)
            first.resume()
            await serves(first, 1)
            await serves(second, 1)
            await first.caught_up(len(feed.sent))
            assert await second.terminate() == 0
    async with first.sibling() as third:
        await exactly_once(third, feed)


async def test_a_snapshot_that_a_zombie_writes_late_is_not_taken_for_the_newest(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """At least once, nobody is fenced: what was under way when it froze arrives behind the new owner's."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), random_walk(200)
    kafka = {"delivery": "at_least_once", "max_poll_records": 7}
    async with Service(bootstrap, tmp_path, prices, kafka=kafka, retrain={"every": 0}) as service:
        await feed.send(messages[:150])
        await service.caught_up(150)
        assert await service.terminate() == 0
        early, *_, last = await read_all(bootstrap, service.topic("state"))
        assert early.value != last.value
        late = Message(early.value, key=early.key, headers=early.headers)
        await Feed(bootstrap, service.topic("state")).send([late])
        service.start()
        await feed.send(messages[150:])
        published = await exactly_once(service, feed)
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as undisturbed:
        assert published.forecast_values() == (await exactly_once(undisturbed, feed)).forecast_values()


async def test_of_two_processes_with_one_instance_id_the_one_that_loses_says_so_and_ends(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Each fences the other's producer; the broker lets both believe that the partition is theirs."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    first = Service(bootstrap, tmp_path, prices, kafka={"instance_id": "one"}, retrain={"every": 0})
    async with first, feed.flowing(random_walk(5000), rate=50):
        await first.ready()
        async with first.sibling() as second:
            (loser,) = await eventually(lambda: [each for each in (first, second) if each.has_ended()], timeout=60)
            assert await loser.exited() == 3
            assert "kafka.instance_id" in loser.stderr().splitlines()[-1]
            assert "Traceback" not in loser.stderr()
            winner = second if loser is first else first
            fed = len(feed.sent)
            await eventually(lambda: len(feed.sent) >= fed + 50)
            await winner.caught_up(fed)
            assert await winner.terminate() == 0
    async with first.sibling() as third:
        await exactly_once(third, feed)


async def test_a_zombie_that_finds_its_place_taken_under_its_own_name_does_not_fight_for_it_for_ever(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Without a tick nobody is fenced: each takes the other's place in the group, several times a second."""
    prices = await topics.create("prices")
    short = {"session_timeout": "2s", "transaction_timeout": "1s", "instance_id": "one"}
    async with Service(bootstrap, tmp_path, prices, kafka=short, retrain={"every": 0}) as first:
        await first.ready()
        first.pause()
        async with first.sibling() as second:
            await second.ready()
            first.resume()
            (loser,) = await eventually(lambda: [each for each in (first, second) if each.has_ended()], timeout=60)
            assert await loser.exited() == 3
            assert "kafka.instance_id" in loser.stderr().splitlines()[-1]
            winner = second if loser is first else first
            assert await (await winner.ready()).terminate() == 0


async def test_under_other_settings_the_ring_is_kept_and_the_rest_begins_anew(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(300)
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as service:
        await feed.send(messages[:200])
        await service.caught_up(200)
        assert await service.terminate() == 0
        service.settings["feed"]["change"] = "difference"
        service.start()
        await service.logged("the settings changed (change): the ring is kept, all else begins anew")
        await feed.send(messages[200:210])
        published = await exactly_once(service, feed)
        scrape = await service.metrics()
        assert scrape.each("streamer_window_fill_ratio") == [1.0]
        # The ten rows of now, and those of the ring but its first, whose price nothing had forecast.
        assert scrape.each("streamer_scored_forecasts_total") == [29.0, 29.0]
    newest = published.values()[-1]
    assert newest["yhat"] == newest["last"] == json.loads(messages[209].value or b"")["prices"]


async def test_a_champion_damaged_on_disk_is_replaced_by_persistence_and_then_by_a_new_model(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    feed, messages = Feed(bootstrap, prices), sawtooth(700)
    async with Service(bootstrap, tmp_path, prices) as service:
        await feed.send(messages[:400])
        champion = (await service.logged("model serves"))["model"]
        await feed.send(messages[400:410])
        await service.caught_up(410)
        assert await service.terminate() == 0
        damage(Path(service.settings["models"]["url"]) / stream / champion / "model.tflite")

        service.start()
        await service.ready()
        (notice,) = [e for e in service.events() if f"model {champion} cannot be used" in e["event"]]
        assert "model.tflite" in notice["event"]
        assert notice["stream"] == stream
        await feed.send(messages[410:420])
        assert (await service.logged("training"))["reason"] == "champion_lost"
        served = await eventually(lambda: service.events("model serves")[1:], timeout=PATIENCE)  # persistence first
        successor = served[0]["model"]
        await feed.send(messages[420:430])
        published = await exactly_once(service, feed)
    by_offset = [value["model"] for value in published.values()]
    assert len({champion, "persistence", successor}) == 3
    assert by_offset[400:] == [champion] * 10 + ["persistence"] * 10 + [successor] * 10


def damage(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
