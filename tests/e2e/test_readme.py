"""The README's commands, run as they stand there."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.conftest import Topics
from tests.support import CHECKOUT, eventually, free_port

README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COVERED_ELSEWHERE = {
    "streamer/scripts/demo": "tests/e2e/test_demo.py",
    "scripts/test": "this very run",
    "scripts/bench tick": "test_the_bench_runs",
}


@pytest.fixture
def shell(tmp_path: Path, bootstrap: str) -> dict[str, str]:
    """Where the commands run: a folder of their own, with the user's prices and the checkout's programs."""
    rows = [f"2026-01-05T{9 + i // 60:02d}:{i % 60:02d}:00Z,{100 + i % 7},{20 + i % 5}" for i in range(600)]
    (tmp_path / "prices.csv").write_text("\n".join(["timestamp,AAPL,MSFT", *rows]) + "\n")
    for name in ("config", ".venv"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    return {**os.environ, "STREAMER_KAFKA__BOOTSTRAP_SERVERS": bootstrap}


def commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line and not line.startswith("export ")]


CLONE, DEMO = commands(BLOCKS[0])
OWN_KAFKA = [command for block in BLOCKS[1:5] for command in commands(block)]
[BACKTEST] = commands(BLOCKS[5])


def test_the_first_command_stands_by_line_20() -> None:
    assert "```sh" in "\n".join(README.splitlines()[:20])


def test_every_command_is_run_by_a_test() -> None:
    run_here = [CLONE, *OWN_KAFKA, BACKTEST]
    rest = [command for block in BLOCKS for command in commands(block) if command not in run_here]
    assert sorted(rest) == sorted(COVERED_ELSEWHERE)


def test_clone_and_demo_are_two_commands_from_an_empty_folder(tmp_path: Path) -> None:
    """The demo itself is run elsewhere: here it would make an environment of 600 MB."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("this checkout is none of git's")
    cloned = subprocess.run(
        CLONE.replace("URL", str(CHECKOUT)), shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert cloned.returncode == 0, cloned.stderr
    assert os.access(tmp_path / DEMO, os.X_OK)


def test_the_bench_runs() -> None:
    done = subprocess.run(
        [CHECKOUT / "scripts" / "bench", "tick", "--ticks", "50", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "default, engine tick" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)  # trainings, on a machine that may be busy
def test_the_backtest_and_its_snippet_run(shell: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        BACKTEST, shell=True, cwd=tmp_path, env=shell, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    named = re.findall(r"^\| `(.+?)` \|", README.split(BACKTEST)[1].split("\n## ")[0], re.MULTILINE)
    files = [name for names in named for name in names.split("`, `")]
    assert sorted(files) == sorted(path.name for path in (tmp_path / "result").iterdir())
    [snippet] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    frame = "import pandas\nframe = pandas.read_csv('prices.csv')\n"
    found = subprocess.run(
        [sys.executable, "-c", frame + snippet], cwd=tmp_path, env=shell, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "AAPL" in found.stdout


async def test_on_your_own_kafka_as_the_readme_says(
    shell: dict[str, str], tmp_path: Path, topics: Topics, bootstrap: str
) -> None:
    """check-config, feed, run; then tail and the two addresses, while a few more ticks come in."""
    names = {name: await topics.create(name.lower().replace("_", "-")) for name in ("PRICES", "FORECASTS", "STATE")}
    port = free_port()
    environment = {
        **shell,
        **{f"STREAMER_KAFKA__TOPICS__{name}": topic for name, topic in names.items()},
        "STREAMER_KAFKA__TOPICS__DEAD_LETTERS": await topics.create("dead-letters"),
        "STREAMER_KAFKA__GROUP_ID": names["PRICES"],
        "STREAMER_HTTP__PORT": str(port),
    }

    def run(command: str) -> str:
        done = subprocess.run(
            command.replace(":9108", f":{port}"),
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    check, feed, serve, tail, metrics, ready = OWN_KAFKA
    assert "change: auto" in run(check)
    run(feed)
    daemon = await asyncio.create_subprocess_exec(*serve.split(), cwd=tmp_path, env=environment)
    try:
        await eventually(lambda: _is_ready(port), timeout=30)
        run(feed.replace("prices.csv", _next_minutes(tmp_path)))
        lines = await asyncio.to_thread(run, tail)
        assert len(lines.strip().splitlines()) == 3
        assert "AAPL" in lines
        assert "streamer_ticks_total" in run(metrics)
        assert '"failing": []' in run(ready)
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert await daemon.wait() == 0


def _next_minutes(folder: Path) -> str:
    """Prices of the minutes after those that `feed` has shifted to now."""
    now = datetime.now(UTC)
    rows = [f"{(now + timedelta(minutes=m)).isoformat()},{100 + m},{20 + m}" for m in range(1, 6)]
    (folder / "next.csv").write_text("\n".join(["timestamp,AAPL,MSFT", *rows]) + "\n")
    return "--keep-times next.csv"


async def _is_ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
