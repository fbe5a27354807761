"""REFERENCE.md against the code, config/asyncapi.yaml against real messages, and links of the pages against files."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from aiokafka import ConsumerRecord

from streamer import control
from streamer.codec import DecodeLimits, DecodeReason
from streamer.codecs.json_text import JsonCodec
from streamer.core.outcome import Forecast, Rejected
from streamer.core.tick import Tick
from streamer.dead_letters import Header
from streamer.errors import ExitCode
from streamer.feeding import encode_tick
from streamer.service.records import OutputRecord, dead_letter_record, forecast_record
from tests.messages import decode
from tests.reference import texts
from tests.reference.configuration import dotted, leaves
from tests.reference.document import PLACE, endpoints, reasons, reference
from tests.reference.topics import document, resolved
from tests.support import CHECKOUT

PAGES = ("README.md", "OPERATIONS.md", "REFERENCE.md", "ARCHITECTURE.md")
ALERTS = (
    *("WorseThanPersistence", "FeedStale", "ForecastsStale", "CoverageLow"),
    *("RetrainFailing", "LagGrowing", "DeadLetters", "InstanceDown"),
)
LIMITS = DecodeLimits(message_bytes=2**20, symbols=2048, symbol_length=64)
WHOLE = document()
MESSAGES = resolved(WHOLE["components"]["messages"], WHOLE)


def record(value: bytes | None, headers: tuple[Header, ...] = (), key: bytes | None = None) -> ConsumerRecord:
    return ConsumerRecord("prices", 0, 999, 1767623460000, 0, key, value, None, 0, len(value or b""), headers)


def forecast() -> OutputRecord:
    prices = np.array([190.12, 20.0])
    made = Forecast(1767623460000, 1767623520000, ("AAPL", "MSFT"), prices, prices, prices, prices, "persistence")
    source = record(b"{}", (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),))
    return forecast_record("forecasts", made, "prices-0", source, JsonCodec())


def check(name: str, payload: Any, headers: Iterable[Header] = ()) -> None:
    """Raise where a message does not fit the document."""
    message = MESSAGES[name]
    formats = jsonschema.Draft7Validator.FORMAT_CHECKER
    jsonschema.validate(payload, message["payload"], cls=jsonschema.Draft7Validator, format_checker=formats)
    shown = {header: value.decode() for header, value in headers}
    jsonschema.validate(shown, message["headers"], cls=jsonschema.Draft7Validator, format_checker=formats)


def json_blocks(page: str) -> list[dict[str, Any]]:
    blocks = re.findall(r"```json\n(.*?)```", (CHECKOUT / page).read_text(), re.DOTALL)
    return [json.loads(block) for block in blocks]


class TestReference:
    def test_it_is_what_the_code_says(self) -> None:
        assert PLACE.read_text() == reference(), "write it anew: scripts/reference"

    def test_every_key_has_a_row_of_its_own(self) -> None:
        found = re.findall(r"^\| `([a-z_.0-9\[\]]+)` \|.*`STREAMER_", PLACE.read_text(), re.MULTILINE)
        assert found == [dotted(key) for key in leaves()]

    def test_every_exit_code_has_its_meaning(self) -> None:
        assert set(ExitCode) | {texts.INTERRUPTED} == set(texts.EXIT_CODES)

    def test_every_reason_that_the_code_gives_is_explained_and_no_other(self) -> None:
        assert set(reasons()) == set(texts.REASONS)
        assert {"error", "ahead", "no_price", "too_many_streams", "invalid_control", *DecodeReason} == set(reasons())

    def test_every_address_is_explained(self) -> None:
        assert (
            {"GET /metrics", "GET /livez", "GET /readyz", "POST /-/retrain"} <= set(endpoints()) <= set(texts.ENDPOINTS)
        )


class TestAsyncApi:
    def test_references_lead_somewhere_and_operations_name_channels(self) -> None:
        whole = resolved(WHOLE, WHOLE)
        assert whole["asyncapi"] == "3.0.0"
        channels = whole["channels"].values()
        assert {operation["action"] for operation in whole["operations"].values()} == {"send", "receive"}
        for operation in whole["operations"].values():
            assert operation["channel"] in channels
        assert all(message in MESSAGES.values() for each in channels for message in each["messages"].values())

    @pytest.mark.parametrize("name", MESSAGES)
    def test_its_schemas_are_schemas(self, name: str) -> None:
        for part in ("payload", "headers"):
            jsonschema.Draft7Validator.check_schema(MESSAGES[name][part])

    @pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "examples" in message])
    def test_its_examples_fit(self, name: str) -> None:
        for example in MESSAGES[name]["examples"]:
            given = [(header, text.encode()) for header, text in example.get("headers", {}).items()]
            check(name, example["payload"], given)

    def test_a_forecast_as_we_publish_it_fits(self) -> None:
        published = forecast()
        assert published.value is not None
        check("forecast", json.loads(published.value), published.headers)

    def test_it_has_the_fields_and_headers_of_a_forecast_and_no_others(self) -> None:
        published = forecast()
        assert published.value is not None
        payload, headers = MESSAGES["forecast"]["payload"], MESSAGES["forecast"]["headers"]
        message = json.loads(published.value)
        assert list(message) == list(payload["properties"]) == payload["required"]
        assert list(message["source"]) == list(payload["properties"]["source"]["properties"])
        assert {name for name, _ in published.headers} | {"tracestate"} == set(headers["properties"])

    @pytest.mark.parametrize("broken", [{"yhat": {"AAPL": "190"}}, {"more": 1}, {"target": None}])
    def test_a_forecast_that_is_none_does_not_fit(self, broken: Mapping[str, Any]) -> None:
        published = forecast()
        assert published.value is not None
        with pytest.raises(jsonschema.ValidationError):
            check("forecast", json.loads(published.value) | broken, published.headers)

    def test_a_tick_as_feed_sends_it_fits_and_is_read(self) -> None:
        value = encode_tick(Tick(1767623460000, {"AAPL": 190.1, "MSFT": float("nan")}))
        check("tick", json.loads(value))

    def test_its_ticks_are_read_as_ticks(self) -> None:
        named, listed = (example["payload"] for example in MESSAGES["tick"]["examples"])
        assert decode(json.dumps(named).encode(), LIMITS).prices["AAPL"] == 190.1
        assert decode(json.dumps(listed).encode(), LIMITS, ("AAPL", "MSFT")).time == 1767623460000

    def test_a_control_message_fits_and_is_read(self) -> None:
        value = control.encode("AAPL", 0.25, None)
        check("adjustment", json.loads(value), [(control.HEADER, control.ADJUST)])
        [example] = MESSAGES["adjustment"]["examples"]
        read = control.decode(control.ADJUST, json.dumps(example["payload"]).encode(), 7, LIMITS)
        assert (read.symbol, read.ratio) == ("AAPL", 0.25)

    @pytest.mark.parametrize("largest", [1_000_000, 4096])
    def test_a_dead_letter_fits_whole_and_cut(self, largest: int) -> None:
        rejected = Rejected("error", "ValueError: no", "Traceback ...")
        letter = dead_letter_record("dead-letters", record(b"x" * 10_000, key=b"k"), rejected, largest)
        check("deadLetter", "", letter.headers)
        assert {name for name, _ in letter.headers} <= set(MESSAGES["deadLetter"]["headers"]["properties"])

    def test_whole_and_cut_letters_have_all_headers_that_it_names(self) -> None:
        rejected = Rejected("error", "ValueError: no", "Traceback ...")
        letters = [
            dead_letter_record("dead-letters", record(b"x" * 10_000, key=b"k"), rejected, largest)
            for largest in (1_000_000, 4096)
        ]
        found = {name for letter in letters for name, _ in letter.headers}
        assert found == set(MESSAGES["deadLetter"]["headers"]["properties"])

    def test_the_examples_of_the_readme_fit(self) -> None:
        tick, published = json_blocks("README.md")
        check("tick", tick)
        headers = forecast().headers
        check("forecast", published, headers)


class TestPages:
    @pytest.mark.parametrize("page", PAGES)
    def test_links_and_pictures_lead_somewhere(self, page: str) -> None:
        text = (CHECKOUT / page).read_text()
        for place in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in place:
                continue
            file, _, anchor = place.partition("#")
            target = CHECKOUT / file if file else CHECKOUT / page
            assert target.exists(), f"{page} links to {place}"
            if anchor:
                assert anchor in anchors(target), f"{page} links to {place}"

    @pytest.mark.parametrize("alert", ALERTS)
    def test_every_alert_has_its_section_that_says_what_to_do(self, alert: str) -> None:
        section = (CHECKOUT / "OPERATIONS.md").read_text().split(f"\n## {alert}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\*\*(It says|Look at|Do)\*\*", section, re.MULTILINE) == ["It says", "Look at", "Do"]

    @pytest.mark.parametrize("page", ["README.md", "OPERATIONS.md"])
    def test_every_metric_that_a_page_names_is_one(self, page: str) -> None:
        known = set(re.findall(r"`(streamer_[a-z_]+)`", PLACE.read_text()))
        named = set(re.findall(r"\b(streamer_[a-z_]+)", (CHECKOUT / page).read_text()))
        assert {name.removesuffix("_bucket") for name in named} <= known

    @pytest.mark.parametrize("page", ["README.md", "OPERATIONS.md"])
    def test_every_key_that_a_page_names_is_one(self, page: str) -> None:
        known = {".".join(key[:length]) for key in leaves() for length in range(1, len(key) + 1)}
        sections = {key[0] for key in leaves()}
        named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", (CHECKOUT / page).read_text())
        assert [name for name in named if name.split(".")[0] in sections and name not in known] == []

    def test_every_log_line_that_operations_names_is_one(self) -> None:
        table = (CHECKOUT / "OPERATIONS.md").read_text().split("## Reading the log")[1].split("\n## ")[0]
        code = "".join(path.read_text() for path in (CHECKOUT / "streamer").rglob("*.py"))
        events = [event for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for event in row.split("`")[1::2]]
        assert len(events) > 10
        assert [event for event in events if event not in code] == []


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as the usual readers of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
