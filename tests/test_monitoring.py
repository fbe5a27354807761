"""The dashboard is what its code writes, and the alert rules say what Prometheus and Grafana can follow."""

import itertools
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from config.grafana import dashboard
from tests.support import CHECKOUT

PROMETHEUS = CHECKOUT / "config" / "prometheus"
NAMES = {
    *("WorseThanPersistence", "FeedStale", "ForecastsStale", "CoverageLow"),
    *("RetrainFailing", "LagGrowing", "DeadLetters", "InstanceDown"),
}

Panel = dict[str, Any]


def written() -> dict[str, Any]:
    """The dashboard as it is checked in."""
    parsed: dict[str, Any] = json.loads(dashboard.FILE.read_text())
    return parsed


def panels() -> list[Panel]:
    """Its panels without the rows."""
    return [panel for panel in written()["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is missing: install Debian's package prometheus, as scripts/test does"
    done = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- dashboard ----------------------------------------------------------------------------------------------------


def test_the_dashboard_that_is_checked_in_is_what_its_code_writes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run scripts/dashboard"


def test_it_is_a_dashboard_by_grafanas_own_models() -> None:
    again = json.loads(json.dumps(Dashboard.from_json(written()), cls=JSONEncoder))
    assert again == written()


def test_ids_are_unique_and_no_two_panels_lie_on_each_other() -> None:
    everything = written()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in everything):
        own = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not own & cells
        assert max(x for x, _ in own) < 24
        cells |= own


def test_every_panel_asks_the_chosen_prometheus_and_says_what_it_means() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == chosen
        assert len(panel["description"]) > 40
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            assert target["expr"]
    assert all(each["datasource"] == chosen for each in written()["templating"]["list"] if each["type"] == "query")


def test_the_variables_are_those_that_the_queries_use() -> None:
    names = [variable["name"] for variable in written()["templating"]["list"]]
    assert names == ["datasource", "instance", "stream", "symbol"]
    used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for panel in panels() for target in panel["targets"])))
    assert used == {"instance", "stream", "symbol", "__range", "__rate_interval"}


# --- alerts -------------------------------------------------------------------------------------------------------


def test_prometheus_takes_its_configuration_and_rules() -> None:
    promtool("check", "config", "prometheus.yaml")
    promtool("check", "rules", "alerts.yaml")


def test_alerts_fire_when_they_must_and_are_silent_when_they_must_not() -> None:
    promtool("test", "rules", "tests.yaml")


def test_every_alert_is_there_and_its_test_says_both_that_it_fires_and_that_it_is_silent() -> None:
    assert {rule["alert"] for rule in alerts()} == NAMES
    tests = yaml.safe_load((PROMETHEUS / "tests.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    for firing in (True, False):
        assert {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is firing} == NAMES


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_runbook_and_to_the_panel_that_names_it(rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]
    assert rule["for"]
    assert rule["labels"].keys() == {"severity", "service"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert annotations["summary"]
    assert annotations["description"]
    assert annotations["runbook"] == f"OPERATIONS.md#{rule['alert'].lower()}"
    assert annotations["__dashboardUid__"] == dashboard.UID == written()["uid"]
    assert annotations["dashboard"].startswith(f"/d/{dashboard.UID}?viewPanel={annotations['__panelId__']}")
    [panel] = [panel for panel in panels() if str(panel["id"]) == annotations["__panelId__"]]
    assert rule["alert"] in panel["description"]
