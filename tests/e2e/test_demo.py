"""`streamer demo` as a process: the real daemon and trainer on the embedded broker, without Docker or Java."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a demo whose temporary folders are made in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamer", "demo", *arguments],
        cwd=CHECKOUT,
        env={"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_promotes_a_model_that_beats_the_last_price_tenfold(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path, "--ticks", "1500", "--json", "--port", str(port)) as demo:
            out, err = demo.communicate()
    assert demo.returncode == 0, err
    assert f"port {port} is taken, using " in err
    assert "live page: http://127.0.0.1:" in err
    summary = json.loads(out)
    assert summary.keys() == {"ticks", "forecasts", "retrains", "symbols"}
    assert (summary["ticks"], summary["forecasts"]) == (1500, 1500)
    assert summary["retrains"]["promoted"] >= 1
    assert summary["symbols"].keys() == {"a", "b"}
    for scores in summary["symbols"].values():
        assert scores.keys() == {"n", "rmse", "persistence_rmse", "skill"}
        assert scores["n"] >= 500
        assert scores["rmse"] < 0.1 * scores["persistence_rmse"]
        assert scores["skill"] == pytest.approx(1 - scores["rmse"] / scores["persistence_rmse"])
    assert list(tmp_path.glob("streamer-*")) == [], "it leaves nothing behind"


def test_ctrl_c_ends_the_demo_in_good_order(tmp_path: Path) -> None:
    with start(tmp_path, "--rate", "20", "--json", "--port", str(free_port())) as demo:
        assert demo.stderr is not None
        seen = iter(demo.stderr.readline, "")
        assert any("warming up" in line for line in seen)
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate()
    assert demo.returncode == 0, err
    summary = json.loads(out)
    assert summary["ticks"] < 3000
    assert summary["retrains"] == {}
    assert summary["symbols"]["a"] == {"n": 0, "rmse": None, "persistence_rmse": None, "skill": None}
    assert list(tmp_path.glob("streamer-*")) == []


def test_without_a_number_of_ticks_the_demo_goes_on_live_until_ctrl_c(tmp_path: Path) -> None:
    with start(tmp_path, "--rate", "0", "--json", "--port", str(free_port())) as demo:
        assert demo.stderr is not None
        assert any("live, with a tick a second" in line for line in iter(demo.stderr.readline, ""))
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate()
    assert demo.returncode == 0, err
    summary = json.loads(out)
    assert summary["ticks"] == pytest.approx(summary["forecasts"], abs=100)
    assert summary["ticks"] >= 3000
    assert summary["symbols"]["a"]["skill"] > 0.9


def test_a_demo_too_short_to_train_ends_with_the_table(tmp_path: Path) -> None:
    with start(tmp_path, "--ticks", "50", "--rate", "0", "--port", "0", "--keep") as demo:
        out, err = demo.communicate()
    assert demo.returncode == 0, err
    assert "50 ticks, 50 forecasts, trainings: none" in out
    [folder] = tmp_path.iterdir()
    assert f"models and log are in {folder}" in err
    assert "partition serves" in (folder / "daemon.log").read_text()
