"""Data quality: what the feed is like."""

from config.grafana.panels import BLUE, GREEN, RED, YELLOW, Query, Row, Spec

_STREAMS = 'instance=~"$instance", stream=~"$stream"'
_LARGEST = " Of many, the largest twenty: choose streams above to see the others."


def _a_minute(counter: str, by: str = "") -> str:
    return f"60 * sum {by}(rate({counter}{{{_STREAMS}}}[$__rate_interval]))"


ROW = Row(
    300,
    "Data quality",
    (
        Spec(
            301,
            "graph",
            "Input a minute, by what became of it",
            "Each record has one outcome: a forecast, a dead letter, or a counted drop. Duplicates or late ticks that"
            " stay: a feed is sent twice, or a clock is wrong. Merged is normal where messages are parts of a step.",
            (Query(_a_minute("streamer_ticks_total", "by (status) "), "{{status}}"),),
            low=0,
        ),
        Spec(
            302,
            "graph",
            "Blanks, gaps, contradictions a minute",
            "Blank: prices missing from a tick. Missing: steps without a tick, stepped over. Session break: a gap too"
            " long for that, or closed hours. Conflict: a second tick of the same time with other prices; two sources"
            " disagree. A step up in any: ask the feed's owner.",
            (
                Query(_a_minute("streamer_blank_prices_total"), "blank prices", BLUE),
                Query(_a_minute("streamer_missing_ticks_total"), "missing ticks", YELLOW),
                Query(_a_minute("streamer_session_breaks_total"), "session breaks", "purple"),
                Query(_a_minute("streamer_conflicts_total"), "conflicts", RED),
            ),
            low=0,
        ),
        Spec(
            303,
            "bars",
            "Dead letters by reason",
            "Records that were no ticks: they stand in the dead-letter topic with their bytes (streamer dlq list). More"
            " than one in a hundred: Alert DeadLetters.",
            (
                Query(
                    'sum by (reason) (increase(streamer_dead_letters_total{instance=~"$instance"}[$__rate_interval]))',
                    "{{reason}}",
                ),
            ),
            low=0,
        ),
        Spec(
            304,
            "graph",
            "Feed lag",
            "Age of the newest tick, by its own time. Over a night or a weekend it grows, and that is no fault: compare"
            " it with the panel beside it. Above ten minutes in open hours: Alert FeedStale." + _LARGEST,
            (Query(f"topk(20, max by (stream) (streamer_feed_lag_seconds{{{_STREAMS}}}))", "{{stream}}"),),
            unit="s",
            low=0,
            log=True,
            thresholds=((None, GREEN), (600, RED)),
        ),
        Spec(
            305,
            "states",
            "Feed open",
            "Whether ticks are expected: the hours of feed.calendar, or without it the times of the week at which they"
            " came before. Closed while ticks come: it has not seen a week yet, or the calendar is wrong." + _LARGEST,
            (Query(f"topk(20, max by (stream) (streamer_feed_open{{{_STREAMS}}}))", "{{stream}}"),),
            mappings={"0": ("closed", "text"), "1": ("open", GREEN)},
        ),
        Spec(
            306,
            "graph",
            "Warm-up",
            "How far the window to forecast from and the history to train on are filled, of the stream that has least."
            " A window that is not full: forecasts are the last price. A history that falls after a restart: the log's"
            " retention is shorter than retrain.history.",
            (
                Query(f"min(streamer_window_fill_ratio{{{_STREAMS}}})", "window", GREEN),
                Query(f"min(streamer_history_fill_ratio{{{_STREAMS}}})", "history", BLUE),
            ),
            unit="percentunit",
            low=0,
            high=1,
        ),
    ),
)
