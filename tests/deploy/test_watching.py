"""What Grafana and Prometheus are given: every metric named exists, every expression is one, all is documented."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from triode_broker.http.metrics_table import METRICS, Metric

from tests.admin.running import running
from tests.house.metrics_reference import PAGE, page
from tests.house.tree import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
#: Grafana's own words, as Prometheus would get them.
SPOKEN = {"$__rate_interval": "1m", "$node": "n1"}
#: Labels that are not of a metric of ours alone: of a histogram, of all targets.
OF_ALL = {"node", "le", "job", "instance"}
WORDS = re.compile(r"triode_[a-z_]+")


def names(metric: Metric) -> set[str]:
    """As they stand in queries."""
    shown = metric.shown_name
    ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ()
    return {shown, *(shown + end for end in ends)}


BY_NAME = {name: metric for metric in METRICS for name in names(metric)}


def expressions() -> Iterator[tuple[str, str]]:
    """Where, and what."""
    board: Any = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"dashboard: {panel['title']}", target["expr"]
    for note in board["annotations"]["list"]:
        yield "dashboard: annotation", note["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def spoken(text: str) -> str:
    for word, meaning in SPOKEN.items():
        text = text.replace(word, meaning)
    return text


@pytest.mark.parametrize(("where", "text"), [*expressions()])
def test_every_expression_is_one_and_names_what_there_is(where: str, text: str) -> None:
    promql_parser.parse(spoken(text))
    named = WORDS.findall(text)
    assert named or "up{" in text
    assert [name for name in named if name not in BY_NAME] == []
    labels = OF_ALL.union(*(BY_NAME[name].labels for name in named))
    used = {
        label.strip()
        for group in re.findall(r"(?:by|on|without) \(([^)]*)\)", text)
        for label in group.split(",")
        if label.strip()
    }
    used |= set(re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!=|!~|=)", text))
    assert used <= labels


def test_every_alert_says_how_bad_it_is_and_what_to_look_at() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert len(rule["annotations"]["runbook"]) > 40
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_labels_that_alerts_speak_of_survive_their_expression() -> None:
    for rule in rules():
        spoken_of = set(re.findall(r"\$labels\.([a-z_]+)", rule["annotations"]["summary"]))
        kept = re.findall(r"by \(([^)]*)\)", rule["expr"])
        if kept:
            assert spoken_of <= {label.strip() for label in kept[0].split(",")}, rule["alert"]


def test_panels_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells


def test_reference_of_metrics_is_current_and_its_words_exist() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "make generate"
    assert [word for word in WORDS.findall(text) if word not in BY_NAME] == []


async def test_page_of_a_real_broker_has_every_metric(tmp_path: Path) -> None:
    """Those of links and of gaps have no samples yet, but their names are there."""
    async with running(tmp_path) as node:
        text = (await node.ask("metrics"))["text"]
    found = {family.name for family in text_string_to_metric_families(text)}
    assert [
        metric.name for metric in METRICS if f"triode_{metric.name}" not in found and metric.kind != "info"
    ] == []
    assert "triode_build_info" in found
