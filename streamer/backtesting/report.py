"""The report of a backtest: one HTML file that needs nothing else."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.backtesting.result import Result


def html(result: "Result") -> str:
    """A page with the figures."""
    return f"<!doctype html><meta charset='utf-8'><title>Backtest</title>{result.scores.to_html()}"
