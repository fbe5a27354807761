"""A few rounds of scripts/soak: whatever happens, each offset has one outcome, that of a run in which nothing did."""

import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.soak import round as rounds
from tests.soak.fleet import Cluster
from tests.support import MissingProgramsError


@pytest.fixture
def seed() -> str:
    """STREAMER_TEST_SEED, or a new one; printed."""
    seed = os.environ.get("STREAMER_TEST_SEED", str(secrets.randbelow(10**6)))
    print(f"STREAMER_TEST_SEED={seed}")
    return seed


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A broker of the test's own behind a proxy."""
    cluster = Cluster(tmp_path / "kafka", Random(os.getpid()))
    try:
        await cluster.start()
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")
    yield cluster
    await cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_killed_frozen_rebalanced_and_cut_off_it_publishes_what_an_undisturbed_run_does(
    cluster: Cluster, tmp_path: Path, seed: str
) -> None:
    faults = {"kill": 3, "zombie": 1, "rebalance": 2, "broker": 1, "network": 2}
    plan = rounds.Plan(f"{seed}/1", ticks=300, faults=faults)
    line = await rounds.run(cluster, tmp_path, plan, await rounds.models(tmp_path / "models"))
    assert line["clean"], json.dumps(line, indent=1)
    assert line["forecasts"]["by_network"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_with_trainings_and_delivery_at_least_once_it_loses_nothing_and_repeats_the_same(
    cluster: Cluster, tmp_path: Path, seed: str
) -> None:
    """The undisturbed run is given the swaps that were recorded."""
    faults = {"kill": 3, "zombie": 1, "rebalance": 2}
    plan = rounds.Plan(f"{seed}/2", "live", "at_least_once", ticks=900, faults=faults)
    line = await rounds.run(cluster, tmp_path, plan, [])
    assert line["clean"], json.dumps(line, indent=1)
