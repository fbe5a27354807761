"""Delivery: how fast and how steadily it answers."""

from config.grafana.panels import BLUE, GREEN, RED, YELLOW, Query, Row, Spec

_HERE = 'instance=~"$instance"'
_STREAMS = f'{_HERE}, stream=~"$stream"'


def _quantile(share: float, histogram: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{{{_HERE}}}[$__rate_interval])))"


ROW = Row(
    500,
    "Delivery",
    (
        Spec(
            501,
            "graph",
            "From tick to forecast",
            "From the fetch that returned a tick to the commit that made its forecast visible: half, and 99 %, took no"
            " longer. Most of it is the broker's commit. A p99 of seconds: a slow broker, or a backlog.",
            (
                Query(_quantile(0.5, "streamer_tick_to_forecast_seconds"), "p50", GREEN),
                Query(_quantile(0.99, "streamer_tick_to_forecast_seconds"), "p99", BLUE),
            ),
            unit="s",
            log=True,
        ),
        Spec(
            502,
            "graph",
            "Engine",
            "One record's way through the engine, decoding and encoding included. It grows with the symbols of a"
            " stream and the units of the network; a step up without a new model: the machine is busy.",
            (
                Query(_quantile(0.5, "streamer_engine_seconds"), "p50", GREEN),
                Query(_quantile(0.99, "streamer_engine_seconds"), "p99", BLUE),
            ),
            unit="s",
            log=True,
        ),
        Spec(
            503,
            "graph",
            "Consumer lag",
            "Records of a partition that are not read yet. After a restart it falls from a peak. Above a hundred and"
            " not falling: Alert LagGrowing; an instance more helps, up to one a partition.",
            (
                Query(
                    f"topk(20, max by (topic, partition) (streamer_consumer_lag_messages{{{_HERE}}}))",
                    "{{topic}} {{partition}}",
                ),
            ),
            low=0,
            thresholds=((None, GREEN), (100, RED)),
        ),
        Spec(
            504,
            "graph",
            "Event loop lag",
            "How much too late the loop ends a short sleep, at the 99th percentile. Near kafka.session_timeout the"
            " group takes the instance for dead; tenths of a second are a snapshot or a machine that is too busy.",
            (Query(_quantile(0.99, "streamer_event_loop_lag_seconds", "le, instance"), "{{instance}}"),),
            unit="s",
            log=True,
            thresholds=((None, GREEN), (0.5, YELLOW), (2, RED)),
        ),
        Spec(
            505,
            "graph",
            "Forecasts a second",
            "Published forecasts, by what made them: a trained model, or the last price while there is none.",
            (
                Query(
                    f"sum by (model_kind) (rate(streamer_forecasts_total{{{_STREAMS}}}[$__rate_interval]))",
                    "{{model_kind}}",
                ),
            ),
            unit="cps",
            low=0,
        ),
        Spec(
            506,
            "graph",
            "Age of the newest forecast",
            "Since the last forecast of a stream was published. In closed hours it grows like the feed's lag. While"
            " input comes in open hours: Alert ForecastsStale. Of many, the oldest twenty.",
            (
                Query(
                    f"topk(20, time() - max by (stream) (streamer_last_forecast_timestamp_seconds{{{_STREAMS}}}))",
                    "{{stream}}",
                ),
            ),
            unit="s",
            low=0,
            log=True,
        ),
    ),
)
