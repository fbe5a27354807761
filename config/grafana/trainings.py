"""Training: how it learns while it serves."""

from config.grafana.panels import GREEN, RED, YELLOW, Query, Row, Spec

_STREAMS = 'instance=~"$instance", stream=~"$stream"'
_BUCKETS = 'streamer_retrain_duration_seconds_bucket{instance=~"$instance"}'


def _ended(outcome: str) -> str:
    return f'sum(increase(streamer_retrains_total{{{_STREAMS}, outcome="{outcome}"}}[$__rate_interval]))'


ROW = Row(
    400,
    "Training",
    (
        Spec(
            401,
            "bars",
            "Trainings by outcome",
            "Promoted: the challenger beat what served, on rows that neither had seen. Rejected: it did not, which is"
            " usual on prices. Skipped: one of that stream was running. Failed without any other end for a day: Alert"
            " RetrainFailing; the log has the reason.",
            (
                Query(_ended("promoted"), "promoted", GREEN),
                Query(_ended("rejected"), "rejected", YELLOW),
                Query(_ended("failed"), "failed", RED),
                Query(_ended("skipped"), "skipped", "text"),
            ),
            low=0,
        ),
        Spec(
            402,
            "bars",
            "Trainings asked for, by reason",
            "Schedule is retrain.every. Drift: the error rose against persistence's; many of them: the market has"
            " changed, or a model is bad. Champion lost: a model could not be loaded from the store.",
            (
                Query(
                    f"sum by (reason) (increase(streamer_retrains_requested_total{{{_STREAMS}}}[$__rate_interval]))"
                    f" or sum by (reason) (0 * streamer_retrains_requested_total{{{_STREAMS}}})",
                    "{{reason}}",
                ),
            ),
            low=0,
        ),
        Spec(
            403,
            "stat",
            "Training time",
            "Half and 99 % of the trainings of the chosen time took no longer, waiting for the model's catch-up"
            " included. Near retrain.time_limit they will fail.",
            (
                Query(f"histogram_quantile(0.5, sum by (le) (increase({_BUCKETS}[$__range])))", "half"),
                Query(f"histogram_quantile(0.99, sum by (le) (increase({_BUCKETS}[$__range])))", "99 %"),
            ),
            unit="s",
            width=6,
        ),
        Spec(
            404,
            "graph",
            "Age of the model in service",
            "Since the last row that it learned from. It falls with each promotion; one that only rises has had its"
            " challengers rejected or failed: see the outcomes. Of many, the oldest twenty.",
            (
                Query(
                    f"topk(20, time() - max by (stream) (streamer_model_trained_timestamp_seconds{{{_STREAMS}}}))",
                    "{{stream}}",
                ),
            ),
            unit="s",
            width=9,
            low=0,
        ),
        Spec(
            405,
            "table",
            "Models in service",
            "The model of each stream that has one. To go back to the one before: streamer models revert.",
            (Query(f"max by (stream, model) (streamer_model_info{{{_STREAMS}}})", "model"),),
            width=9,
            columns={"stream": ("Stream", ""), "model": ("Model", ""), "Value": ("Serves", "bool_yes_no")},
        ),
    ),
)
