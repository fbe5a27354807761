"""Trainings beside serving: promoted, killed, too slow, orphaned; the ticks flow on."""

import json
import os
import re
import signal
from pathlib import Path

from tests.e2e.conftest import Topics
from tests.e2e.feeding import MINUTE, START, Feed, sawtooth, tick
from tests.e2e.harness import Samples, Service, until
from tests.support import eventually

TOKEN = "a-token-of-the-tests"


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that only waits for its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def data_limit(pid: int) -> str:
    """Soft and hard limit of its data memory, as the kernel states them."""
    found = re.search(r"^Max data size +(\S+ +\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert found
    return found[1]


async def retrains(service: Service, outcome: str, count: int) -> Samples:
    """Wait until so many trainings have ended with `outcome`."""
    scrape = Samples("")

    async def counted() -> bool:
        nonlocal scrape
        scrape = await service.metrics()
        return scrape.total("streamer_retrains_total", outcome=outcome) >= count

    await until(counted)
    return scrape


async def test_models_come_and_go_beside_the_ticks(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """One daemon's life: a model promoted and swapped in while ticks flow, then a training asked for and killed."""
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    service = Service(bootstrap, tmp_path, prices, retrain={"first": 300, "every": 100_000, "memory_limit": "3GiB"})
    service.environment["STREAMER_HTTP__TOKEN"] = TOKEN
    feed, messages = Feed(bootstrap, prices), sawtooth(20_000)
    await feed.send(messages[:300])
    async with service:
        async with feed.flowing(messages[300:], rate=100):
            await the_trainer_steps_back(service)
            await service.logged("model serves")
            scrape = await retrains(service, "promoted", 1)
            assert scrape.total("streamer_retrain_duration_seconds_count") == 1
            await a_killed_training_is_counted_and_no_more(service, stream)
        serving_never_maps_tensorflow(service)
        await service.caught_up(len(feed.sent))
        await the_swap_is_where_the_store_says(service, stream, feed)
        scrape = await service.metrics()
        assert scrape.total("streamer_ticks_total", status="forecast") == len(feed.sent)
        outcomes = ("promoted", "failed", "skipped")
        assert [scrape.total("streamer_retrains_total", outcome=each) for each in outcomes] == [1, 1, 1]
        assert scrape.total("streamer_retrains_total") == 3
        assert await service.terminate() == 0


async def test_prices_that_fall_below_zero_are_served_by_the_next_model(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """The log names the symbol, a training is due at once, and its model takes differences."""
    prices = await topics.create("prices")
    service = Service(bootstrap, tmp_path, prices, retrain={"first": 300, "every": 100_000})
    feed, positive = Feed(bootstrap, prices), sawtooth(900)
    vectors = [json.loads(message.value or b"")["prices"] for message in positive]
    messages = [tick(row, {"a": each["a"], "b": each["b"] - 2.0}) for row, each in enumerate(vectors)]
    await feed.send(positive[:300])
    async with service:
        first = (await service.logged("model serves"))["model"]
        await feed.send(messages[300:600])
        switched = await service.logged("prices are not all positive, the changes of these symbols are differences")
        assert switched["symbols"] == ["b"]
        await retrains(service, "promoted", 2)
        await until_swapped(service, 2)
        await feed.send(messages[600:])
        await service.caught_up(len(messages))
        published = await service.published()
        reasons = [event["reason"] for event in service.events("training")]
        assert await service.terminate() == 0
    assert reasons == ["schedule", "switched_to_differences"]
    second = service.swaps(f"{prices}-0")[1]["model"]
    changes = [changes_of(service, prices, model) for model in (first, second)]
    assert changes == [["log_return", "log_return"], ["log_return", "difference"]]
    errors, flat = 0.0, 0.0
    for value, after in zip(published.values()[600:-1], vectors[601:], strict=True):
        assert value["model"] == second
        errors += (value["yhat"]["b"] - after["b"] + 2.0) ** 2
        flat += (value["last"]["b"] - after["b"] + 2.0) ** 2
    assert errors < 0.5 * flat


async def until_swapped(service: Service, count: int) -> None:
    """Wait until so many models have begun to serve."""
    await eventually(lambda: len(service.events("model serves")) >= count)


def changes_of(service: Service, prices: str, model: str) -> list[str]:
    """What the stored model's manifest says that it learned, by symbol."""
    manifest = Path(service.settings["models"]["url"]) / f"{prices}-0" / model / "manifest.json"
    changes: list[str] = json.loads(manifest.read_text())["change"]
    return changes


async def the_trainer_steps_back(service: Service) -> None:
    """A training runs only when nobody else wants the processor, and within its memory limit."""
    trainer = await service.trainer()
    await eventually(lambda: os.sched_getscheduler(trainer) == os.SCHED_IDLE)
    limit = str(3 * 2**30)
    await eventually(lambda: data_limit(trainer).split() == [limit, limit])
    assert os.sched_getscheduler(service.pid) != os.SCHED_IDLE
    assert data_limit(service.pid).split() != [str(limit), str(limit)]


async def a_killed_training_is_counted_and_no_more(service: Service, stream: str) -> None:
    """It is refused without the token, begins with it, and not twice; its violent end is an outcome and a log line."""
    assert (await service.post("/-/retrain", "wrong"))[0] == 401
    status, body = await service.post(f"/-/retrain?stream={stream}", TOKEN)
    assert (status, json.loads(body)) == (200, {"requested": [stream], "skipped": []})
    trainer = await service.trainer()
    status, body = await service.post("/-/retrain", TOKEN)
    assert (status, json.loads(body)) == (200, {"requested": [], "skipped": [stream]})
    os.kill(trainer, signal.SIGKILL)
    failure = await service.logged("training failed, serving goes on as it was")
    assert "SIGKILL" in failure["reason"]
    await retrains(service, "failed", 1)
    assert [event["reason"] for event in service.events("training")] == ["schedule", "requested"]
    assert (await service.get("/readyz"))[0] == 200


def serving_never_maps_tensorflow(service: Service) -> None:
    """After a promotion the LiteRT runtime is in the daemon's memory, TensorFlow and Keras are not."""
    maps = Path(f"/proc/{service.pid}/maps").read_text().lower()
    assert "litert" in maps
    assert "tensorflow/" not in maps
    assert "keras" not in maps


async def the_swap_is_where_the_store_says(service: Service, stream: str, feed: Feed) -> None:
    """Persistence up to the recorded tick, the new model from exactly the next on, for every offset once."""
    (swap,) = service.swaps(stream)
    published = await service.published()
    assert sorted(published.forecast_values()) == feed.sent
    assert published.models() == ["persistence", swap["model"]]
    after = (swap["after"] - START) // MINUTE
    assert 300 <= after < len(feed.sent) - 1
    models = [value["model"] for value in published.values()]
    assert models == ["persistence"] * (after + 1) + [swap["model"]] * (len(models) - after - 1)


async def test_a_killed_daemon_leaves_no_training_behind(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    prices = await topics.create("prices")
    await Feed(bootstrap, prices).send(sawtooth(320))
    async with Service(bootstrap, tmp_path, prices, fit={"steps": 1_000_000, "patience": 10_000}) as service:
        trainer = await service.trainer()
        await eventually(lambda: os.sched_getscheduler(trainer) == os.SCHED_IDLE)
        os.kill(service.pid, signal.SIGKILL)
        await service.exited()
        try:
            await eventually(lambda: has_ended(trainer))
        finally:
            if not has_ended(trainer):
                os.kill(trainer, signal.SIGKILL)  # or it would go on after the tests


async def test_a_training_beyond_its_time_limit_is_ended_and_named(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    await feed.send(sawtooth(320))
    async with Service(bootstrap, tmp_path, prices, retrain={"time_limit": "1s"}) as service:
        trainer = await service.trainer()
        failure = await service.logged("training failed, serving goes on as it was")
        assert "retrain.time_limit, 1 s" in failure["reason"]
        assert has_ended(trainer)
        await retrains(service, "failed", 1)
        await feed.send(sawtooth(330)[320:])
        await service.caught_up(330)
        assert sorted((await service.published()).forecast_values()) == feed.sent
