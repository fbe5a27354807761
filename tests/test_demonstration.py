"""The demo's settings and arithmetic; the whole of it is in tests/e2e/test_demo.py."""

from pathlib import Path
from typing import Any

import pytest

from streamer.config import load
from streamer.demonstration import Tally, demo_settings
from tests.support import CHECKOUT


def test_the_shipped_profile_is_what_the_demo_runs_with() -> None:
    shipped = load(CHECKOUT / "config" / "demo.yaml", {})
    assert demo_settings(shipped.kafka.bootstrap_servers, Path(shipped.models.url), shipped.http.port) == shipped


def forecast(row: int, yhat: float, model: str) -> dict[str, Any]:
    return {
        "as_of": str(row),
        "target": str(row + 1),
        "model": model,
        "yhat": {"a": yhat, "b": yhat},
        "source": {"offset": row},
    }


class TestTally:
    prices = {str(row): {"a": float(row), "b": 5.0} for row in range(4)}  # noqa: RUF012 - read only

    def test_forecasts_are_scored_since_a_model_first_served(self) -> None:
        tally = Tally(self.prices)
        tally.take(forecast(0, 100.0, "persistence"))
        tally.take(forecast(1, 2.5, "m1"))
        tally.take(forecast(2, 3.5, "persistence"))
        assert tally.forecasts == 3
        assert tally.errors["a"].summary() == {"n": 2, "rmse": 0.5, "persistence_rmse": 1.0, "skill": 0.5}

    def test_a_forecast_of_a_price_never_fed_is_counted_and_not_scored(self) -> None:
        tally = Tally(self.prices)
        tally.take(forecast(3, 4.0, "m1"))
        assert tally.forecasts == 1
        assert tally.errors["a"].summary() == {"n": 0, "rmse": None, "persistence_rmse": None, "skill": None}

    def test_a_repeat_counts_once(self) -> None:
        tally = Tally(self.prices)
        for row in (0, 1, 0, 1, 2):
            tally.take(forecast(row, 1.0, "m1"))
        assert tally.forecasts == 3
        assert tally.errors["a"].n == 3

    def test_skill_is_unknown_where_the_last_price_is_never_wrong(self) -> None:
        tally = Tally(self.prices)
        tally.take(forecast(0, 5.0, "m1"))
        assert tally.errors["b"].summary()["skill"] is None
        assert tally.errors["b"].summary()["rmse"] == pytest.approx(0.0)
