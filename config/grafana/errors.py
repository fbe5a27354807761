"""Error and skill: always beside the last price as forecast."""

from config.grafana.panels import BLUE, GREEN, RED, YELLOW, Query, Row, Spec

_CELLS = 'instance=~"$instance", stream=~"$stream", symbol=~"$symbol"'
_MANY = " Of many, the {} twenty: choose streams and symbols above to see the others."
_WORST, _LARGEST = _MANY.format("worst"), _MANY.format("largest")


def _rmse(forecaster: str, window: str) -> str:
    """Root mean squared error by stream and symbol over `window`, from the counters. A move sums two instances."""
    errors = f'streamer_squared_error_total{{{_CELLS}, forecaster="{forecaster}"}}'
    return (
        f"sqrt(sum by (stream, symbol) (increase({errors}[{window}]))"
        f" / sum by (stream, symbol) (increase(streamer_scored_forecasts_total{{{_CELLS}}}[{window}])))"
    )


def _relative(forecaster: str) -> str:
    """Geometric mean over streams and symbols of the error as a share of the last price's: prices have many units."""
    own, baseline = (f'streamer_rmse{{{_CELLS}, forecaster="{each}"}}' for each in (forecaster, "persistence"))
    return f"exp(avg(ln({own}) - on (job, instance, stream, symbol) ln({baseline})))"


_SERVED, _PERSISTENCE = (
    f'streamer_squared_error_total{{{_CELLS}, forecaster="{each}"}}' for each in ("served", "persistence")
)

ROW = Row(
    200,
    "Error and skill",
    (
        Spec(
            201,
            "graph",
            "Error as a share of persistence's",
            "RMSE of each forecaster divided by that of 'same as the last price', over the last forecasts scored"
            " (scoring.window), as the geometric mean of the chosen symbols. Below 1 is better than the last price."
            " Served above 1 for a day: Alert WorseThanPersistence. The bare network above 1 is common: the mix is"
            " there to give it little weight then.",
            (
                Query(_relative("served"), "served", GREEN),
                Query(_relative("lstm"), "bare LSTM", BLUE),
                Query(_relative("linear"), "linear", YELLOW),
                Query(_relative("persistence"), "persistence", "text", dashed=True),
            ),
            decimals=3,
        ),
        Spec(
            202,
            "graph",
            "Skill",
            "1 - RMSE of what was published / RMSE of the last price, over the last forecasts scored. On prices a few"
            " percent are much; around 0 nothing is gained or lost. Below 0 for long: Alert WorseThanPersistence."
            + _WORST,
            (Query(f"bottomk(20, streamer_skill_ratio{{{_CELLS}}})", "{{stream}} {{symbol}}"),),
            unit="percentunit",
            decimals=2,
            thresholds=((None, RED), (0, GREEN)),
        ),
        Spec(
            203,
            "table",
            "RMSE over the chosen time",
            "From the counters, over the range at the top of the page, in units of the price, worst skill first. Served"
            " is what was published; network and linear count as the last price for the time before the first model.",
            (
                Query(
                    f"sort(1 - {_rmse('served', '$__range')} / {_rmse('persistence', '$__range')})",
                    "skill",
                ),
                Query(_rmse("served", "$__range"), "served"),
                Query(_rmse("persistence", "$__range"), "persistence"),
                Query(_rmse("lstm", "$__range"), "bare LSTM"),
                Query(_rmse("linear", "$__range"), "linear"),
                Query(
                    f"sum by (stream, symbol) (increase(streamer_scored_forecasts_total{{{_CELLS}}}[$__range]))",
                    "scored",
                ),
            ),
            width=24,
            columns={
                "stream": ("Stream", ""),
                "symbol": ("Symbol", ""),
                "Value #A": ("Skill", "percentunit"),
                "Value #B": ("Served", ""),
                "Value #C": ("Persistence", ""),
                "Value #D": ("Bare LSTM", ""),
                "Value #E": ("Linear", ""),
                "Value #F": ("Scored", "short"),
            },
        ),
        Spec(
            204,
            "graph",
            "RMSE",
            "Over the last forecasts scored, in units of the price. It rises with every volatile hour, for persistence"
            " as for us: compare the lines of a symbol." + _LARGEST,
            (Query(f"topk(20, streamer_rmse{{{_CELLS}}})", "{{stream}} {{symbol}} {{forecaster}}"),),
        ),
        Spec(
            205,
            "graph",
            "Interval coverage",
            "Share of prices that lay inside their interval, over the last forecasts scored; dashed, what"
            " interval.coverage asks for. The width adapts to its own misses, so it stays near the line. Five points"
            " below it for an hour: Alert CoverageLow." + _WORST,
            (
                Query(
                    f"bottomk(20, streamer_interval_coverage_ratio{{{_CELLS}}})",
                    "{{stream}} {{symbol}}",
                ),
                Query(
                    'max(streamer_interval_coverage_target_ratio{instance=~"$instance"})', "asked for", RED, dashed=True
                ),
            ),
            unit="percentunit",
            high=1,
        ),
        Spec(
            206,
            "graph",
            "Squared error of a day against persistence's",
            "Sum of the squared errors of the last 24 hours, served divided by persistence, from the counters: what"
            " WorseThanPersistence watches. It fires above 1 by more than 1 / sqrt(forecasts scored), which luck"
            " explains, with a rolling skill below 0." + _LARGEST,
            (
                Query(
                    f"topk(20, sum by (stream, symbol) (increase({_SERVED}[1d]))"
                    f" / sum by (stream, symbol) (increase({_PERSISTENCE}[1d])))",
                    "{{stream}} {{symbol}}",
                ),
            ),
            decimals=3,
            thresholds=((None, GREEN), (1, RED)),
        ),
        Spec(
            207,
            "graph",
            "Forecasts scored a minute",
            "Forecasts that met a price at exactly their target time. Fewer than the feed's ticks times symbols: prices"
            " are blank or ticks are missing, and the figures above rest on less." + _LARGEST,
            (
                Query(
                    "topk(20, 60 * sum by (stream) (rate("
                    f"streamer_scored_forecasts_total{{{_CELLS}}}[$__rate_interval])))",
                    "{{stream}}",
                ),
            ),
            low=0,
        ),
    ),
)
