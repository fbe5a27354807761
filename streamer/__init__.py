"""streamer: one-step-ahead forecasts of price vectors, live from Kafka, with their honest error."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.backtesting import backtest

__all__ = ["__version__", "backtest"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load what needs pandas only when it is asked for: the command line answers at once."""
    if name == "backtest":
        from streamer.backtesting import backtest

        return backtest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
