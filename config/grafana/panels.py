"""What the panels have in common: queries, units, sizes, thresholds. `dashboard.py` says what they show."""

from dataclasses import dataclass, field
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Whichever Prometheus is chosen at the top of the page."""

WIDTH: Final = 24
"""Columns of Grafana's grid."""

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and what its series are called: text with `{{label}}` in it.

    color: of all its series. dashed: what it draws is a mark to compare with, not a measurement.
    """

    expr: str
    legend: str
    color: str | None = None
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Spec:
    """One panel.

    id: stable, since alerts link to it. description: what it says, and when to worry. unit: one of Grafana's.
    thresholds: from which value on which colour; the first holds from minus infinity.
    """

    id: int
    kind: Literal["graph", "bars", "stat", "states", "table"]
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    height: int = 8
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ()
    names: bool = False
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    mappings: dict[str, tuple[str, str]] = field(default_factory=dict)


PanelBuilder = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel


def _of_kind(spec: Spec) -> PanelBuilder:
    match spec.kind:
        case "graph":
            return _graph(spec)
        case "bars":
            return _bars(spec)
        case "stat":
            return _stat(spec)
        case "states":
            return _states()
        case "table":
            return _table(spec)


def _panel(spec: Spec) -> PanelBuilder:
    panel = _of_kind(spec).id(spec.id).title(spec.title).description(spec.description).unit(spec.unit)
    panel = panel.datasource(DATASOURCE).mappings(_mappings(spec)).no_value("none yet")
    for number, query in enumerate(spec.queries):
        panel = panel.with_target(_target(query, chr(ord("A") + number), spec))
        if query.color is not None or query.dashed:
            panel = panel.override_by_query(chr(ord("A") + number), _look(query))
    if spec.thresholds:
        steps = [Threshold(value=value, color=color) for value, color in spec.thresholds]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if spec.decimals is not None:
        panel = panel.decimals(spec.decimals)
    if spec.low is not None:
        panel = panel.min(spec.low)
    if spec.high is not None:
        panel = panel.max(spec.high)
    return panel


def _target(query: Query, name: str, spec: Spec) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(name).expr(query.expr).legend_format(query.legend).datasource(DATASOURCE)
    if spec.kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    return target.instant() if spec.kind == "stat" else target.range()


def _look(query: Query) -> list[DynamicConfigValue]:
    look = []
    if query.color is not None:
        look.append(DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": query.color}))
    if query.dashed:
        look.append(DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}))
    return look


def _mappings(spec: Spec) -> list[ValueMapping]:
    texts = {value: ValueMappingResult(text=text, color=color) for value, (text, color) in spec.mappings.items()}
    return [ValueMap(options=texts)] if texts else []


def _graph(spec: Spec) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(5)
        .show_points(options.VisibilityMode.AUTO)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if spec.log:
        panel = panel.scale_distribution(common.ScaleDistributionConfig().type(options.ScaleDistribution.LOG).log(10))
    if spec.thresholds:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def _bars(spec: Spec) -> timeseries.Panel:
    stacked = common.StackingConfig().mode(options.StackingMode.NORMAL).group("A")
    return _graph(spec).draw_style(options.GraphDrawStyle.BARS).fill_opacity(80).stacking(stacked)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _stat(spec: Spec) -> stat.Panel:
    # Of a value the newest is shown; where the name is what counts, there is one field a series.
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("")
    text = options.BigValueTextMode.NAME if spec.names else options.BigValueTextMode.AUTO
    return (
        stat.Panel()
        .reduce_options(reduce)
        .text_mode(text)
        .color_mode(options.BigValueColorMode.VALUE)
        .graph_mode(options.BigValueGraphMode.NONE)
    )


def _states() -> statetimeline.Panel:
    return statetimeline.Panel().show_value(options.VisibilityMode.NEVER).merge_values(True).legend(_legend())


def _table(spec: Spec) -> table.Panel:
    """A row for each set of labels, a column for each query; `columns`: title and unit by the name of a field."""
    titles = {name: title for name, (title, _) in spec.columns.items()}
    order = {name: place for place, name in enumerate(spec.columns)}
    hidden = dict.fromkeys(("Time", "job", "instance", "__name__"), True)
    organize = {"excludeByName": hidden, "renameByName": titles, "indexByName": order}
    panel = table.Panel().cell_height(options.TableCellHeight.SM)
    panel = panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(DataTransformerConfig(id_val="organize", options=organize))
    for title, unit in spec.columns.values():
        if unit:
            panel = panel.override_by_name(title, [DynamicConfigValue(id_val="unit", value=unit)])
    return panel


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the dashboard, and the panels below it."""

    id: int
    title: str
    panels: tuple[Spec, ...]


def rows(builder: dashboard.Dashboard, parts: tuple[Row, ...]) -> dashboard.Dashboard:
    """Add one row after the other to `builder`, each with its panels below it."""
    top = 0
    for part in parts:
        builder = builder.with_row(dashboard.Row(part.title).id(part.id).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=top)))
        panels, top = _placed(part.panels, top + 1)
        for panel in panels:
            builder = builder.with_panel(panel)
    return builder


def _placed(specs: tuple[Spec, ...], top: int) -> tuple[list[PanelBuilder], int]:
    """`specs` from left to right below row `top`, and the first free row below them."""
    panels, x, y, tallest = [], 0, top, 0
    for spec in specs:
        if x + spec.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        panels.append(_panel(spec).grid_pos(GridPos(h=spec.height, w=spec.width, x=x, y=y)))
        x, tallest = x + spec.width, max(tallest, spec.height)
    return panels, y + tallest
