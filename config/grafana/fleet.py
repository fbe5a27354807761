"""Fleet: what runs, and whether it serves."""

from config.grafana.panels import BLUE, GREEN, RED, YELLOW, Query, Row, Spec

_HERE = 'instance=~"$instance"'
_OURS = "and on (job, instance) streamer_build_info"  # Prometheus itself has process metrics too
_STREAMS = f'{_HERE}, stream=~"$stream"'

ROW = Row(
    100,
    "Fleet",
    (
        Spec(
            101,
            "stat",
            "Instances up",
            "Daemons that answer a scrape. Fewer than you started: look at their logs; their partitions have moved to"
            " the others of the group. Alert: InstanceDown.",
            (Query(f'sum(up{{job=~".*streamer.*", {_HERE}}})', "up"),),
            width=4,
            height=4,
            thresholds=((None, RED), (1, GREEN)),
        ),
        Spec(
            102,
            "stat",
            "Instances ready",
            "Daemons that are in the group and have restored their streams. One that is not ready for minutes cannot"
            " reach its broker, or restores a long history: its /readyz says which. Alert: InstanceDown.",
            (Query(f"sum(streamer_ready{{{_HERE}}})", "ready"),),
            width=4,
            height=4,
            thresholds=((None, RED), (1, GREEN)),
        ),
        Spec(
            103,
            "stat",
            "Partitions",
            "Input partitions that the chosen instances own. Over all instances it is the topic's number of partitions;"
            " fewer for more than a rebalance: a partition is served by nobody.",
            (Query(f"sum(streamer_assigned_partitions{{{_HERE}}})", "partitions"),),
            width=4,
            height=4,
            thresholds=((None, RED), (1, GREEN)),
        ),
        Spec(
            104,
            "stat",
            "Alerts firing",
            "Alerts of config/prometheus/alerts.yaml that fire now. Each has a line in OPERATIONS.md that says what to"
            " do.",
            (Query('count(ALERTS{service="streamer", alertstate="firing"}) or vector(0)', "alerts"),),
            width=4,
            height=4,
            thresholds=((None, GREEN), (1, RED)),
        ),
        Spec(
            105,
            "stat",
            "Scores left out",
            "Pairs of stream and symbol whose scores are not shown, since there are more than the daemon's limit.",
            (Query(f"sum(streamer_series_dropped{{{_HERE}}})", "left out"),),
            width=4,
            height=4,
            thresholds=((None, GREEN), (1, YELLOW)),
        ),
        Spec(
            106,
            "stat",
            "Version",
            "Versions that run. More than one for longer than an upgrade takes: an instance was forgotten.",
            (Query(f"count by (version) (streamer_build_info{{{_HERE}}})", "{{version}}", BLUE),),
            width=4,
            height=4,
            names=True,
        ),
        Spec(
            110,
            "bars",
            "Streams by model kind",
            "Streams that a trained model serves, and those that are answered with the last price: they warm up, or"
            " nothing has beaten the last price yet. A model that vanishes was reverted, or could not be loaded.",
            (
                Query(
                    f"count(streamer_model_info{{{_STREAMS}}}) or vector(0)",
                    "lstm",
                    GREEN,
                ),
                Query(
                    f"count(streamer_feed_lag_seconds{{{_STREAMS}}}"
                    " unless on (job, instance, stream) streamer_model_info) or vector(0)",
                    "persistence",
                    YELLOW,
                ),
            ),
            width=8,
        ),
        Spec(
            111,
            "graph",
            "Partitions by instance",
            "How the group has shared the input. A step is a rebalance; many steps: a member comes and goes.",
            (Query(f"streamer_assigned_partitions{{{_HERE}}}", "{{instance}}"),),
            width=8,
            low=0,
        ),
        Spec(
            112,
            "graph",
            "Memory",
            "Resident memory of the serving process; trainings are processes of their own and not in it. It grows with"
            " streams and symbols, not with time: a line that keeps rising at a constant load is a fault to report.",
            (Query(f"process_resident_memory_bytes{{{_HERE}}} {_OURS}", "{{instance}}"),),
            unit="bytes",
            width=8,
            low=0,
        ),
        Spec(
            113,
            "graph",
            "Processor time",
            "Cores that the serving process uses, of one: it has one loop. Near 1 it falls behind: add an instance, up"
            " to one a partition.",
            (Query(f"rate(process_cpu_seconds_total{{{_HERE}}}[$__rate_interval]) {_OURS}", "{{instance}}"),),
            unit="percentunit",
            width=8,
            low=0,
            thresholds=((None, GREEN), (0.8, YELLOW), (0.95, RED)),
        ),
    ),
)
