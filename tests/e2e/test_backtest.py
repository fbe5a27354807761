"""A backtest and the daemon are one: the same ticks and swaps, the same forecasts."""

import asyncio
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth
from tests.e2e.harness import Service

ROWS = 1400


def write_csv(messages: Sequence[Message], path: Path) -> None:
    """The ticks as a file of prices."""
    ticks = [json.loads(message.value or b"") for message in messages]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *ticks[0]["prices"]])
        writer.writerows([tick["ts"], *tick["prices"].values()] for tick in ticks)


def backtest(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `streamer backtest prices.csv` in `folder` says."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "backtest", "prices.csv", "--json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


async def test_a_backtest_on_a_live_runs_swaps_gives_its_forecasts_bit_for_bit(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(ROWS)
    async with Service(bootstrap, tmp_path, prices, retrain={"first": 300, "every": 300}) as service:
        await service.ready()
        await feed.send(messages[:900])
        await service.logged("model promoted")
        await feed.send(messages[900:], rate=300)
        await service.caught_up(ROWS)
        published = (await service.published()).values()
    write_csv(messages, tmp_path / "prices.csv")
    config, models = str(service.folder / "config.json"), service.settings["models"]["url"]
    summary = await asyncio.to_thread(
        backtest, tmp_path, "-c", config, "-o", "result", "--schedule", models, "--train-fraction", "0.01"
    )
    assert [swap["model"] for swap in summary["swaps"]] == [s["model"] for s in service.swaps(f"{prices}-0")]
    assert summary["notices"] == []
    with (tmp_path / "result" / "predicted.csv").open() as file:
        rows = {row.pop("timestamp"): row for row in csv.DictReader(file)}
    yhat = {forecast["target"]: forecast["yhat"] for forecast in published}
    assert len(rows) == ROWS - 14
    for target, row in rows.items():
        assert {symbol: float(value) for symbol, value in row.items()} == yhat[target]
