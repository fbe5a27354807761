"""The dashboard, as code: what it shows. Grafana reads what this writes.

    scripts/dashboard          writes config/grafana/dashboards/streamer.json anew

A test fails where the file is not what this would write.
"""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from config.grafana import delivery, errors, feeds, fleet, trainings
from config.grafana.panels import DATASOURCE, Row, rows

FILE: Final = Path(__file__).parent / "dashboards" / "streamer.json"

UID: Final = "streamer"
"""What links from alerts name."""

ROWS: Final[tuple[Row, ...]] = (fleet.ROW, errors.ROW, feeds.ROW, trainings.ROW, delivery.ROW)

_DESCRIPTION: Final = (
    "What streamer serves, how good it is beside 'same as the last price', what its feed is like, how it learns, and"
    " how fast it answers. Written by config/grafana/dashboard.py: change that, not this."
)


def build() -> Dashboard:
    """The whole dashboard."""
    builder = (
        builders.Dashboard("streamer")
        .uid(UID)
        .description(_DESCRIPTION)
        .tags(["streamer", "kafka", "forecast"])
        .readonly()
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotation(_alerts())
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, label, query in _VARIABLES:
        builder = builder.with_variable(_variable(name, label, query))
    return rows(builder, ROWS).build()


_VARIABLES: Final = (
    ("instance", "Instance", "label_values(streamer_build_info, instance)"),
    ("stream", "Stream", 'label_values(streamer_feed_lag_seconds{instance=~"$instance"}, stream)'),
    (
        "symbol",
        "Symbol",
        'label_values(streamer_scored_forecasts_total{instance=~"$instance", stream=~"$stream"}, symbol)',
    ),
)


def _variable(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": f"{name}-values"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")  # else two thousand names in one expression
        .current(VariableOption(text="All", value="$__all"))
        .hide(VariableHide.DONT_HIDE)
    )


def _alerts() -> builders.AnnotationQuery:
    """Where alerts fired, across all panels."""
    return (
        builders.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("red")
        .expr('ALERTS{service="streamer", alertstate="firing"}')
    )


def text() -> str:
    """The file's text."""
    return json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write the file."""
    FILE.write_text(text())


if __name__ == "__main__":
    main()
