"""The record value of a forecast, before a codec makes bytes of it."""

from typing import Any

from streamer.codec import format_time
from streamer.core.outcome import Forecast


def forecast_message(forecast: Forecast, stream: str, source: tuple[str, int, int]) -> dict[str, Any]:
    """The forecast made from the tick at `source` (topic, partition, offset), in plain values.

    Nothing in it comes from the clock: the same tick gives the same message.
    """
    topic, partition, offset = source
    symbols = forecast.symbols
    return {
        "id": f"{topic}-{partition}-{offset}",
        "stream": stream,
        "as_of": format_time(forecast.as_of),
        "target": format_time(forecast.target),
        "yhat": dict(zip(symbols, forecast.yhat.tolist(), strict=True)),
        "yhat_lower": dict(zip(symbols, forecast.lower.tolist(), strict=True)),
        "yhat_upper": dict(zip(symbols, forecast.upper.tolist(), strict=True)),
        "last": dict(zip(symbols, forecast.last.tolist(), strict=True)),
        "model": forecast.model,
        "source": {"topic": topic, "partition": partition, "offset": offset},
    }
