"""streamer: one-step-ahead forecasts of price vectors, live from Kafka, with their honest error.

From Python, all it takes is a frame with a column of prices per symbol, indexed by time:

>>> import pandas as pd
>>> import streamer
>>> from streamer.testing import sawtooth
>>> frame = sawtooth(400)
>>> frame.columns.tolist()
['a', 'b']

What the daemon's forecasts of it would have been worth, with its trainings (`result.write("result")` writes all of it,
with a report; without `models` no model is kept):

>>> import tempfile
>>> models = tempfile.TemporaryDirectory()
>>> small = {"feed.change": "difference", "network.features": "changes", "network.mode": "joint", "fit.refit": False,
...          "network.layers": [{"units": 8}], "network.members": 1, "fit.steps": 60, "models.url": models.name}
>>> result = streamer.backtest(frame, small, retrain_every=0, models=models.name)
>>> list(result.predicted.columns), len(result.predicted)
(['a', 'b'], 40)
>>> bool((result.scores["skill"] > 0.1).all())  # 1 - RMSE / RMSE of "same as the last price"
True
>>> figure = result.plot("a")  # plotly's; also plot_error, plot_coverage, plot_experts

The engine by itself, fed row after row as the daemon feeds it, with a model of that store:

>>> engine = streamer.ForecastEngine.from_settings(small)
>>> forecasts = engine.feed(frame[:-1])
>>> forecasts["yhat"].unstack().columns.tolist()
['a', 'b']
>>> swap = engine.load_model()  # also load_folder("model"), as `streamer train` writes it, and train()
>>> engine.feed(frame[-1:])["model"].iloc[0] == engine.model_id == result.swaps["model"].iloc[-1]
True
>>> models.cleanup()

`streamer.testing` has what tests need of code that reads forecasts or feeds ticks.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.backtesting import backtest
    from streamer.notebook import ForecastEngine

__all__ = ["ForecastEngine", "__version__", "backtest"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load what needs pandas only when it is asked for: the command line answers at once."""
    if name == "backtest":
        from streamer.backtesting import backtest

        return backtest
    if name == "ForecastEngine":
        from streamer.notebook import ForecastEngine

        return ForecastEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
