"""A short round of tests/soak/fuzzed.py."""

import json
import os
import secrets
from pathlib import Path

import pytest

from tests.e2e.conftest import Topics
from tests.soak.fuzzed import PRICES, check
from tests.support import shared_data


@pytest.mark.slow
@pytest.mark.timeout(400)  # a training, on a machine that may be busy
async def test_rubbish_in_a_real_feed_goes_to_the_dead_letters_and_changes_no_forecast(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    shared_data(f"dev/{PRICES.name}")
    seed = int(os.environ.get("STREAMER_TEST_SEED", secrets.randbelow(10**6)))
    print(f"STREAMER_TEST_SEED={seed}")
    figures = await check(bootstrap, topics, tmp_path, messages=3000, ticks=1000, seed=seed)
    print(json.dumps(figures))
    assert figures["dead_letter"] > 2000
