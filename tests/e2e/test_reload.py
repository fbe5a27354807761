"""A configuration that changes under a daemon that serves: one outcome per offset, and forecasts as a restart gives."""

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, random_walk
from tests.e2e.harness import Service, until
from tests.support import eventually

TOKEN = "a-token-of-the-tests"
STATIC = {"instance_id": "one"}


def reloading(bootstrap: str, folder: Path, prices: str, **sections: Any) -> Service:
    service = Service(bootstrap, folder, prices, retrain={"every": 0}, **sections)
    service.environment["STREAMER_HTTP__TOKEN"] = TOKEN
    return service


def write(service: Service, **sections: dict[str, Any]) -> None:
    """Change its configuration file, and nothing else."""
    for name, values in sections.items():
        service.settings[name] = service.settings.get(name, {}) | values
    (service.folder / "config.json").write_text(json.dumps(service.settings, indent=1))


async def counted(service: Service, outcome: str) -> float:
    return (await service.metrics()).total("streamer_config_reloads_total", outcome=outcome)


async def hang_up(service: Service, outcome: str) -> None:
    """SIGHUP, and wait until the reload has ended so."""
    before = await counted(service, outcome)
    os.kill(service.pid, signal.SIGHUP)

    async def more() -> bool:
        return await counted(service, outcome) > before

    await until(more)


async def test_after_a_reload_it_forecasts_what_it_would_after_a_stop_and_a_start(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Bit for bit, under settings that let the stream begin anew on its ring, and then under others that do not."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), random_walk(900)
    changes: list[dict[str, dict[str, Any]]] = [
        {"interval": {"coverage": 0.7}},
        {"feed": {"window": 20, "max_gap": 3}, "state": {"every": 7}, "limits": {"symbols": 2}},
    ]
    reloaded, restarted = (reloading(bootstrap, tmp_path, prices, kafka=STATIC) for _ in range(2))
    async with reloaded, restarted:
        for part, change in enumerate([None, *changes]):
            if change is not None:
                write(reloaded, **change)
                await hang_up(reloaded, "taken")
                assert await restarted.terminate() == 0
                write(restarted, **change)
                restarted.start()
            await feed.send(messages[part * 300 : part * 300 + 300])
            for service in (reloaded, restarted):
                await service.ready()
                await service.caught_up(len(feed.sent))
        taken = [each["changed"] for each in reloaded.events("configuration taken over")]
        assert taken == [["interval.coverage"], ["feed.max_gap", "state.every", "limits.symbols"]]
        published, expected = await reloaded.published(), await restarted.published()
        assert sorted(published.forecast_values()) == sorted(feed.sent)
        assert published.forecast_values() == expected.forecast_values()
        assert await reloaded.terminate() == 0


async def test_reloads_while_ticks_flow_and_a_kill_right_after_one_lose_and_repeat_nothing(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """Under settings that change no forecast: all are those of a daemon that nobody disturbed."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    async with reloading(bootstrap, tmp_path, prices, kafka=STATIC) as service:
        await service.ready()
        async with feed.flowing(random_walk(20_000), rate=200):
            for every in (3, 1000, 20):
                await eventually(partial(feed.has_sent, len(feed.sent) + 60), timeout=30)
                write(service, state={"every": every})
                status, body = await service.post("/-/reload", TOKEN)
                assert (status, json.loads(body)) == (
                    200,
                    {"changed": ["state.every"], "needs_restart": [], "pending": []},
                )
            await service.kill()
            service.start()
            await service.ready()
            os.kill(service.pid, signal.SIGHUP)
            assert (await service.logged("configuration taken over"))["changed"] == []
        await service.caught_up(len(feed.sent))
        published = await service.published()
        assert sorted(published.forecast_values()) == sorted(feed.sent)
        assert await service.terminate() == 0
    async with reloading(bootstrap, tmp_path, prices) as undisturbed:
        await undisturbed.caught_up(len(feed.sent))
        assert (await undisturbed.published()).forecast_values() == published.forecast_values()


async def test_what_is_refused_is_told_with_its_place_and_all_goes_on(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), random_walk(60)
    async with reloading(bootstrap, tmp_path, prices) as service:
        await service.ready()
        await feed.send(messages[:30])
        config = service.folder / "config.json"
        good = config.read_text()

        write(service, state={"every": -1})
        line = next(n for n, text in enumerate(config.read_text().splitlines(), 1) if '"every": -1' in text)
        await hang_up(service, "refused")
        reason = (await service.logged("configuration refused, the one before stays"))["reason"]
        assert reason == f"{config}:{line}: state.every: found -1, expected at least 1"
        status, body = await service.post("/-/reload", TOKEN)
        assert (status, json.loads(body)) == (409, {"error": reason})

        port = service.settings["http"]["port"]
        write(service, state={"every": 5}, http={"port": 1}, log={"level": "debug"})
        service.settings["http"]["port"] = port  # where it still listens
        status, body = await service.post("/-/reload", TOKEN)
        assert (status, json.loads(body)["needs_restart"]) == (409, ["http.port"])
        config.write_text("{")
        assert (await service.post("/-/reload", TOKEN))[0] == 409
        config.unlink()
        os.mkfifo(config)
        status, body = await service.post("/-/reload", TOKEN)
        assert (status, json.loads(body)["error"].split(": ", 1)[1].split(",")[0]) == (409, "is no file")
        config.unlink()
        assert (await service.post("/-/reload", "wrong"))[0] == 401
        scrape = await service.metrics()
        assert scrape.each("streamer_config_last_reload_successful") == [0]
        assert scrape.total("streamer_config_reloads_total", outcome="refused") == 5
        assert scrape.total("streamer_config_reloads_total", outcome="taken") == 0

        config.write_text(good)
        status, body = await service.post("/-/reload", TOKEN)
        assert (status, json.loads(body)["changed"]) == (200, [])
        assert (await service.metrics()).each("streamer_config_last_reload_successful") == [1]
        await feed.send(messages[30:])
        await service.caught_up(60)
        assert sorted((await service.published()).forecast_values()) == feed.sent
        assert TOKEN not in service.stderr()
        assert await service.terminate() == 0


async def test_a_token_is_changed_and_the_log_too_without_a_restart(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    service = Service(bootstrap, tmp_path, prices, retrain={"every": 0}, http={"token_file": str(token_file)})
    async with service:
        await service.ready()
        token_file.write_text("another-token\n")
        write(service, log={"format": "text"})
        status, body = await service.post("/-/reload", TOKEN)
        assert (status, json.loads(body)["changed"]) == (200, ["http.token", "log.format"])
        assert (await service.post("/-/reload", TOKEN))[0] == 401
        assert (await service.post("/-/reload", "another-token"))[0] == 200
        assert "configuration taken over" in service.stderr().splitlines()[-1]
        assert not service.stderr().splitlines()[-1].startswith("{")
        assert "another-token" not in service.stderr()
        os.kill(service.pid, signal.SIGTERM)
        os.kill(service.pid, signal.SIGHUP)
        assert await service.exited() == 0
