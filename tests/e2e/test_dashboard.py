"""The dashboard's queries and an alert, in a real Prometheus that scrapes a real daemon."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

from config.grafana import dashboard
from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth, tick
from tests.e2e.harness import Service, until
from tests.e2e.test_prometheus import Prometheus, prometheus
from tests.support import CHECKOUT

CHOSEN = {
    "$instance": ".*",
    "$stream": ".*",
    "$symbol": ".*",
    "$__rate_interval": "2m",
    "$__range": "5m",
}
"""What Grafana puts in the place of its variables, where all of each are chosen."""


def queries() -> list[tuple[str, str]]:
    """Panel and expression of every query of the dashboard as it is checked in."""
    found = []
    for panel in json.loads(dashboard.FILE.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expr: str = target["expr"]
            for variable, value in CHOSEN.items():
                expr = expr.replace(variable, value)
            found.append((panel["title"], expr))
    return found


def shortened_rules() -> str:
    """The rule file with a minute for its day and seconds to wait; the expressions stay as they are."""
    text = (CHECKOUT / "config" / "prometheus" / "alerts.yaml").read_text()
    return re.sub(r"for: \w+", "for: 3s", text).replace("[1d]", "[1m]")


def awry(messages: list[Message]) -> list[Message]:
    """Beside them one that repeats, one that contradicts it, and one that is no tick."""
    last = messages[-1]
    other = replace(last, value=(last.value or b"").replace(b'"a": ', b'"a": 1'))
    return [*messages, last, other, Message(b"rubbish")]


def hostile(first: int, rows: int) -> list[Message]:
    """Prices that turn back at every tick: whoever has learned that they go on is wrong each time."""
    return [tick(first + row, dict.fromkeys(("a", "b"), 2.0 + row % 2)) for row in range(rows)]


async def test_every_query_of_the_dashboard_has_data_and_an_alert_fires(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """A bare network learns ramps; then the prices turn at every tick, and its forecasts are worse than the last."""
    prices = await topics.create("prices")
    service = Service(
        bootstrap,
        tmp_path,
        prices,
        scoring={"window": 100},
        fit={"combine": "off"},
        retrain={"first": 300, "every": 100_000, "drift": 0},
    )
    feed, learned = Feed(bootstrap, prices), sawtooth(600)
    async with service, prometheus(tmp_path, service, shortened_rules()) as server:
        await service.ready()
        await until_scraped(server, 0)
        await feed.send(learned[:350])
        await service.logged("model serves")
        await until_scraped(server, 350)
        await feed.send(awry(learned[350:]))
        await until_scraped(server, 603)
        await every_query_has_data(server)
        assert await firing(server) == set()
        async with feed.flowing(hostile(600, 20_000), rate=50):
            await until(lambda: fires(server, f"{prices}-0"))
        assert await service.terminate() == 0


async def until_scraped(server: Prometheus, ticks: int) -> None:
    """Wait until Prometheus knows of so many."""

    async def scraped() -> bool:
        return await server.query("sum(streamer_ticks_total)") == {(): float(ticks)}

    await until(scraped)


async def every_query_has_data(server: Prometheus) -> None:
    """Of each panel; some want two scrapes."""
    without: list[tuple[str, str]] = []

    async def all_have() -> bool:
        without[:] = [(title, expr) for title, expr in queries() if not numbers(await server.query(expr))]
        return not without

    try:
        await until(all_have, interval=0.5)
    except AssertionError:
        raise AssertionError(f"no data: {without}") from None


def numbers(vector: dict[tuple[str, ...], float]) -> list[float]:
    return [value for value in vector.values() if not math.isnan(value)]


async def firing(server: Prometheus) -> set[tuple[str, ...]]:
    """Stream and symbol for which the alert fires."""
    found = await server.query(
        'max by (stream, symbol) (ALERTS{alertname="WorseThanPersistence", alertstate="firing"})'
    )
    return set(found)


async def fires(server: Prometheus, stream: str) -> bool:
    return await firing(server) == {(stream, "a"), (stream, "b")}
