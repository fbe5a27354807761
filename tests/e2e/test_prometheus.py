"""A real Prometheus scrapes a real daemon, and its answers are those of the topics."""

import json
import math
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Published, sawtooth
from tests.e2e.harness import Service, until
from tests.support import eventually, free_port


class Prometheus:
    """Asks the HTTP API of a Prometheus server."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def query(self, promql: str) -> dict[tuple[str, ...], float]:
        """The instant vector of `promql`: value by the sorted values of its labels but `job` and `instance`."""
        url = f"{self._url}/api/v1/query"
        async with aiohttp.ClientSession() as session, session.get(url, params={"query": promql}) as response:
            answer: dict[str, Any] = await response.json()
        assert answer["status"] == "success", answer
        return {_labels(each["metric"]): float(each["value"][1]) for each in answer["data"]["result"]}


def _labels(metric: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for name, value in sorted(metric.items()) if name not in ("job", "instance", "__name__"))


@asynccontextmanager
async def prometheus(folder: Path, service: Service, rules: str | None = None) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes `service` each second, and evaluates `rules`, the text of a rule file, as often."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus: install the Debian package prometheus")
    target = service.url.removeprefix("http://")
    config = folder / "prometheus.json"  # JSON is YAML
    job = {"job_name": "streamer", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    settings: dict[str, Any] = {"scrape_configs": [job | {"scrape_timeout": "1s"}]}
    if rules is not None:
        (folder / "rules.yaml").write_text(rules)
        settings |= {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yaml"]}
    config.write_text(json.dumps(settings))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://{address}")
        await until(server.is_ready)
        yield server
    finally:
        process.terminate()
        await eventually(lambda: process.poll() is not None, timeout=30)


def rmse_of_topics(published: Published, messages: list[Message], symbol: str, field: str) -> float:
    """Error of what the forecasts say in `field`, against the price of the message that came next."""
    said = [value[field][symbol] for value in published.values()][:-1]
    seen = [json.loads(message.value or b"")["prices"][symbol] for message in messages[1:]]
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(said, seen, strict=True)) / len(seen))


async def test_prometheus_shows_the_error_of_what_was_published(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    """Half of the forecasts are a model's, so that served and persistence are not the same figure."""
    prices = await topics.create("prices")
    stream = f"{prices}-0"
    feed, messages = Feed(bootstrap, prices), sawtooth(700)
    async with (
        Service(bootstrap, tmp_path, prices, scoring={"window": 100}) as service,
        prometheus(tmp_path, service) as server,
    ):
        await feed.send(messages[:350])
        await service.logged("model serves")
        await feed.send(messages[350:])
        await service.caught_up(700)

        async def has_scraped_all() -> bool:
            return await server.query("sum(streamer_ticks_total)") == {(): 700.0}

        await until(has_scraped_all)
        published = await service.published()
        assert len(published.models()) == 2
        assert await server.query('up{job="streamer"}') == {(): 1.0}
        assert await server.query("streamer_ticks_total > 0") == {("forecast", stream): 700.0}
        await the_rmse_is_that_of_the_topics(server, published, messages, stream)
        await the_rolling_rmse_is_there(server, stream)
        promtool_has_no_objection((await service.metrics()).text)


async def the_rmse_is_that_of_the_topics(
    server: Prometheus, published: Published, messages: list[Message], stream: str
) -> None:
    """Over the whole life, by PromQL from the two counters, for the published forecast and for the last price."""
    rmse = "sqrt(streamer_squared_error_total / ignoring(forecaster) group_left streamer_scored_forecasts_total)"
    found = await server.query(rmse)
    for symbol in ("a", "b"):
        served = rmse_of_topics(published, messages, symbol, "yhat")
        persistence = rmse_of_topics(published, messages, symbol, "last")
        assert served != persistence
        assert found["served", stream, symbol] == pytest.approx(served, rel=1e-6)
        assert found["persistence", stream, symbol] == pytest.approx(persistence, rel=1e-6)


async def the_rolling_rmse_is_there(server: Prometheus, stream: str) -> None:
    """The gauge that the dashboard shows, of each symbol, for the forecast and for its rival."""
    for forecaster in ("served", "persistence"):
        gauge = await server.query(f'streamer_rmse{{forecaster="{forecaster}"}}')
        assert set(gauge) == {(forecaster, stream, symbol) for symbol in ("a", "b")}
        assert all(value > 0 for value in gauge.values())


def promtool_has_no_objection(text: str) -> None:
    """Names, help texts and types are as Prometheus wants them."""
    program = shutil.which("promtool")
    assert program is not None, "promtool comes with the Debian package prometheus"
    done = subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
