"""The way back to an earlier model, by `streamer models revert` on a daemon that serves."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth
from tests.e2e.harness import Service
from tests.support import CHECKOUT, eventually

TOKEN = "a-token-of-the-tests"
ON_REQUEST = {"first": 300, "every": 100_000, "drift": 0}


def reverting(bootstrap: str, folder: Path, prices: str) -> Service:
    """A daemon that takes any model not worse than persistence, and heeds the token."""
    # A champion that was fitted on all rows could be judged on the ten since alone.
    service = Service(bootstrap, folder, prices, retrain=ON_REQUEST, gate={"tolerance": 1.0}, fit={"refit": False})
    service.environment["STREAMER_HTTP__TOKEN"] = TOKEN
    return service


async def models(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`streamer models` with the daemon's configuration and token."""
    command = [sys.executable, "-m", "streamer", "models", *arguments, "-c", str(service.folder / "config.json")]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=CHECKOUT,
        env={**service.environment, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


async def answer(service: Service, *arguments: str) -> Any:
    """Its answer in JSON."""
    done = await models(service, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def serves(service: Service, count: int) -> str:
    """Wait for so many swaps in the log since its last start; returns the model that began to serve last."""
    events = await eventually(lambda: service.events("model serves")[count - 1 :], timeout=60)
    model: str = events[0]["model"]
    return model


async def feed_on(feed: Feed, service: Service, messages: list[Message]) -> None:
    """Send the next ten, and wait until they are forecast."""
    await feed.send(messages[len(feed.sent) : len(feed.sent) + 10])
    await service.caught_up(len(feed.sent))


async def test_reverts_hold_through_a_restart_and_a_schedule_repeats_them(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    feed, messages = Feed(bootstrap, prices), sawtooth(400)
    async with reverting(bootstrap, tmp_path, prices) as service:
        await feed.send(messages[:300])
        first = await serves(service, 1)
        await feed_on(feed, service, messages)
        assert (await service.post("/-/retrain", TOKEN))[0] == 200
        second = await serves(service, 2)
        await feed_on(feed, service, messages)

        assert (await service.post("/-/revert", "wrong"))[0] == 401
        back = await answer(service, "revert", "--stream", stream)
        assert back == {"stream": stream, "reverted": second, "model": first}
        await feed_on(feed, service, messages)
        listed = {each["id"]: each["status"] for each in await answer(service, "list")}
        assert listed == {first: "champion", second: "reverted"}

        assert await service.terminate() == 0
        service.start()
        await service.ready()
        await feed_on(feed, service, messages)
        assert (await answer(service, "revert"))["model"] == "persistence", "which served before the first"
        await service.kill()
        service.start()
        await service.ready()
        await feed_on(feed, service, messages)
        listed = {each["id"]: each["status"] for each in await answer(service, "list")}
        assert listed == {first: "reverted", second: "reverted"}
        nothing = await models(service, "revert")
        assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
        assert "is served by persistence: there is nothing to revert" in nothing.stderr

        published = await service.published()
        served = [value["model"] for value in published.values()]
        tens = [served[at] for at in range(300, 350, 10)]
        assert tens == [first, second, first, first, "persistence"]
        assert served[300:] == [model for model in tens for _ in range(10)]
        assert await service.terminate() == 0
    assert [swap["model"] for swap in service.swaps(stream)] == [first, second, first, "persistence"]

    undisturbed = reverting(bootstrap, tmp_path, prices)
    undisturbed.arguments = ["--schedule", service.settings["models"]["url"]]
    async with undisturbed:
        await undisturbed.ready()
        await undisturbed.caught_up(len(feed.sent))
        assert (await undisturbed.published()).forecast_values() == published.forecast_values()
        refused = await models(undisturbed, "revert")
        assert refused.returncode == 1
        assert "run it without --schedule" in refused.stderr


async def test_a_training_that_makes_a_reverted_model_again_is_rejected_after_a_restart_too(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """The same ticks, the same seed, and no other champion: the same model."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(320)
    async with reverting(bootstrap, tmp_path, prices) as service:
        await feed.send(messages[:300])
        model = await serves(service, 1)
        assert (await answer(service, "revert"))["reverted"] == model
        assert await service.terminate() == 0

        service.start()
        await service.ready()
        assert (await service.post("/-/retrain", TOKEN))[0] == 200
        rejected = await service.logged("model rejected")
        assert (rejected["model"], rejected["reason"]) == (model, "rejected: it was reverted before")
        await feed_on(feed, service, messages)
        assert (await service.published()).values()[-1]["model"] == "persistence"
        scrape = await service.metrics()
        assert scrape.total("streamer_retrains_total", outcome="rejected") == 1
        assert scrape.total("streamer_retrains_requested_total", reason="requested") == 1


async def test_where_the_champion_is_lost_the_model_before_it_serves(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """It was kept for that, though newer ones fill the store."""
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    feed, messages = Feed(bootstrap, prices), sawtooth(400)
    service = reverting(bootstrap, tmp_path, prices)
    service.settings["models"]["keep"] = 1
    async with service:
        await feed.send(messages[:300])
        first = await serves(service, 1)
        await feed_on(feed, service, messages)
        await service.post("/-/retrain", TOKEN)
        champion = await serves(service, 2)
        await feed_on(feed, service, messages)
        assert await service.terminate() == 0
        store = Path(service.settings["models"]["url"])
        (store / stream / champion / "weights.npz").unlink()

        service.start()
        await service.ready()
        assert await serves(service, 1) == first
        training = await service.logged("training")
        assert (training["reason"], training["champion"]) == ("champion_lost", first)
        await feed_on(feed, service, messages)
        successor = await serves(service, 2)
        await feed_on(feed, service, messages)
        published = await service.published()
    served = [first, champion, first, successor]
    assert [value["model"] for value in published.values()][300:] == [model for model in served for _ in range(10)]
    assert [swap["model"] for swap in service.swaps(stream)] == served


async def test_of_several_streams_the_one_to_revert_has_to_be_named(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    await feed.send([*sawtooth(20, key=b"one"), *sawtooth(20, key=b"two")])
    async with reverting(bootstrap, tmp_path, prices) as service:
        await service.ready()
        await service.caught_up(40)
        for options, said in {
            (): "there are 2 streams: name the one whose model is to be reverted",
            ("--stream", "one"): "stream 'one' is served by persistence: there is nothing to revert",
            ("--stream", "three"): "there is no stream 'three'",
        }.items():
            refused = await models(service, "revert", *options)
            assert refused.returncode == 1
            assert refused.stderr.endswith(f"refuses: {said}\n")
        told = json.loads((await service.get("/api/v1/streams"))[1])
        assert {name: {key: each[key] for key in ("model", "reverted", "training")} for name, each in told.items()} == {
            name: {"model": "persistence", "reverted": [], "training": False} for name in ("one", "two")
        }
