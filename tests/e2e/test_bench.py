"""The benchmarks of the whole daemon run, check what they see, and say what they promise to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench._parts import Prices
from tests.support import CHECKOUT


def bench(name: str, folder: Path, *options: str) -> Any:
    """What a benchmark saw, on prices of its own."""
    walk = Prices.random_walk(folder / "walk.csv", 2_000)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", name, *options, "--json", "--data", str(walk.path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["benches"]
    return result["details"]


@pytest.mark.slow
@pytest.mark.timeout(600)  # one training, at idle priority, beside whatever else runs
def test_the_serving_bench_reports_latency_with_and_without_a_training(tmp_path: Path, bootstrap: str) -> None:
    """`bootstrap` says that there is a Kafka to be had; the bench starts its own."""
    figures = bench("serving", tmp_path, "--ticks", "700", "--rate", "100")
    assert figures["outcomes"]["forecasts"] == 1_700
    assert figures["trainings"]["ended"][0]["event"] in ("model promoted", "model rejected")
    for measured in ("visible", "tick_to_forecast", "engine"):
        phases = figures[measured]
        assert phases["both idle"]["n"] + phases["both training"]["n"] == 1_700
        assert phases["both training"]["n"] >= 100
        assert phases["both idle"]["p99"] > 0
    assert 0 < figures["memory_mb"]["trained"]["resident"] < 1_000
