"""The codecs: bytes to plain values and back, and what is refused."""

import csv
import io
import json
import math
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer import codecs
from streamer.codecs.avro import AvroCodec, _parsed
from streamer.codecs.csv_line import CsvCodec
from streamer.codecs.json_text import JsonCodec
from streamer.codecs.registry import LARGEST_ANSWER, Registry, RegistryError
from streamer.errors import ConfigError, DecodeError
from streamer.mapping import RecordMapping
from tests.messages import Record, decoded
from tests.registry import Handler, RegistryServer, registry_server
from tests.support import CHECKOUT

TIME = 1_767_623_460_000  # 2026-01-05T14:31:00Z
TEXT = "2026-01-05T14:31:00Z"
FORECAST = {
    "id": "prices-0-999",
    "stream": "prices, of mine",
    "as_of": TEXT,
    "target": "2026-01-05T14:32:00.500Z",
    "yhat": {"A": 190.12, "B": -0.1},
    "yhat_lower": {"A": 189.7, "B": -0.2},
    "yhat_upper": {"A": 190.5, "B": 1e-300},
    "last": {"A": 190.1, "B": 0.0},
    "model": "persistence",
    "source": {"topic": "prices", "partition": 0, "offset": 999},
}
NAMES = st.text(st.characters(codec=None), max_size=5)
NUMBERS = st.floats() | st.floats(1e-5, 1e-3) | st.floats(1e15, 1e17) | st.floats(1.0, 1e4)
TICK = {
    "type": "record",
    "name": "Tick",
    "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "prices", "type": {"type": "map", "values": ["null", "double"]}},
    ],
}


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


def avro(server: RegistryServer) -> AvroCodec:
    return AvroCodec({}, Registry(server.url, timeout=2.0))


def written(number: int, schema: Any, datum: Any) -> bytes:
    """A message in Confluent's wire format."""
    out = io.BytesIO()
    out.write(b"\0" + number.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return out.getvalue()


def read(codec: AvroCodec, value: bytes) -> Any:
    codec.prepare([value])
    return codec.decode(value)


def test_a_registry_that_is_slow_with_one_schema_holds_up_no_other(server: RegistryServer) -> None:
    """Each partition prepares in a thread of its own."""
    slow, other = server.add(TICK), server.add({"type": "map", "values": "double"})
    is_asked, may_answer = threading.Event(), threading.Event()

    def fault(request: BaseHTTPRequestHandler) -> bool:
        if request.path == f"/schemas/ids/{slow}":
            is_asked.set()
            may_answer.wait(60)
        return False

    server.fault, codec = fault, AvroCodec({}, Registry(server.url, timeout=5.0))
    tick = {"ts": TIME, "prices": {"A": 1.0}}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, codec, written(slow, TICK, tick))
        try:
            assert is_asked.wait(60)
            found = read(codec, written(other, {"type": "map", "values": "double"}, {"A": 1.0}))
            assert not waiting.done()
        finally:
            may_answer.set()
        assert found == {"A": 1.0}
        assert waiting.result()["prices"] == {"A": 1.0}


def refusal(codec: codecs.Codec, value: bytes) -> str:
    if isinstance(codec, AvroCodec):
        codec.prepare([value])
    with pytest.raises(DecodeError) as caught:
        codec.decode(value)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= 250
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize(
        ("section", "name", "problem"),
        [
            ("input", "avrow", "input.codec: found 'avrow', expected one of avro, csv, json: did you mean 'avro'? "),
            (
                "output",
                "protobuf",
                "output.codec: found 'protobuf', expected one of avro, csv, json: a codec of your own",
            ),
        ],
    )
    def test_an_unknown_codec_is_refused_with_the_known_ones(self, section: str, name: str, problem: str) -> None:
        with pytest.raises(ConfigError) as caught:
            codecs.load(section, name, {}, None)
        assert str(caught.value).startswith(problem)

    @pytest.mark.parametrize(
        ("name", "options", "problem"),
        [
            ("json", {"a": 1}, "input.options.a: unknown option: this codec has none"),
            ("csv", {"colums": []}, "input.options.colums: unknown option: did you mean 'columns'?"),
            ("csv", {"quote": "'"}, "input.options.quote: unknown option: the options here are columns, delimiter"),
            ("csv", {"columns": "a,b"}, "input.options.columns: found 'a,b', expected a list of names"),
            ("csv", {"columns": ["a", 1]}, "input.options.columns: found ['a', 1], expected a list of names"),
            ("csv", {"columns": ["a", "a"]}, "input.options.columns: a name stands twice, expected each once"),
            ("csv", {"delimiter": "ab"}, "input.options.delimiter: found 'ab', expected one character, no quote"),
            ("csv", {"delimiter": '"'}, "input.options.delimiter: found '\"', expected one character, no quote"),
            ("avro", {}, "input.codec: avro needs a schema registry: set registry.url"),
        ],
    )
    def test_options_of_no_use_are_one_line(self, name: str, options: dict[str, Any], problem: str) -> None:
        with pytest.raises(ConfigError) as caught:
            codecs.load("input", name, options, None)
        assert str(caught.value) == problem

    def test_ours_are_entry_points_too(self) -> None:
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        assert project["entry-points"][codecs.GROUP] == codecs._OURS


class TestJson:
    def test_what_is_written_is_read_back(self) -> None:
        assert JsonCodec().decode(JsonCodec().encode(FORECAST)) == FORECAST

    @given(st.dictionaries(NAMES, st.lists(NUMBERS, min_size=4, max_size=4), max_size=4), NAMES)
    @example({"A": [1e-5, 1.0, 1.0, 1.0]}, "s")
    @example({"A": [1.0, 1e16, 1.0, 1.0]}, "s")
    @example({"A": [1.0] * 4, "B": [1.0, math.nan, 1.0, 1.0], "C": [2.0] * 4}, "s")
    @example({"A": [1.0] * 4, "B": [1.0, 1.0, math.inf, 1.0]}, "s")
    @example({"A": [-0.0, 0.0, 1.0, 1.0]}, "s")
    @example({"A": [1.0] * 4}, "\x7f")
    @example({"A": [1.0] * 4}, "é\u2028\ud800")
    def test_the_bytes_are_those_of_pythons_writer(self, prices: dict[str, list[float]], stream: str) -> None:
        """A forecast that is made again, by whatever version, is the same record."""
        parts = zip(("yhat", "yhat_lower", "yhat_upper", "last"), zip(*prices.values(), strict=True), strict=False)
        maps = {part: dict(zip(prices, values, strict=True)) for part, values in parts}
        message = FORECAST | maps | {"stream": stream}
        try:
            expected = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        except ValueError:
            with pytest.raises(ValueError, match="not JSON compliant"):
                JsonCodec().encode(message)
        else:
            assert JsonCodec().encode(message) == expected


class TestCsv:
    @pytest.mark.parametrize(
        ("line", "cells"),
        [
            (b"1,2", {"a": "1", "b": "2"}),
            (b"1,\r\n", {"a": "1", "b": ""}),
            (b'"x, ""y""",\xc3\xa9\n', {"a": 'x, "y"', "b": "é"}),
            (b'"two\nlines",2', {"a": "two\nlines", "b": "2"}),
        ],
    )
    def test_a_line_is_an_object_of_text_by_column(self, line: bytes, cells: dict[str, str]) -> None:
        assert CsvCodec({"columns": ["a", "b"]}).decode(line) == cells

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b"1,2,3", "length_mismatch: 3 cells for 2 columns"),
            (b"1", "length_mismatch: 1 cells for 2 columns"),
            (b"1,2\n3,4\n", "malformed: 2 lines, expected one"),
            (b"\xff,2", "malformed: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
            (b'"1,2', "malformed: unexpected end of data"),
            (b'"1"2,3', "malformed: ',' expected after '\"'"),
            (b"9" * 200_000 + b",1", "malformed: field larger than field limit (131072)"),
        ],
    )
    def test_what_is_no_line_of_its_columns_is_refused(self, line: bytes, problem: str) -> None:
        assert refusal(CsvCodec({"columns": ["a", "b"]}), line) == problem

    @given(st.binary(max_size=60))
    def test_any_bytes_are_a_line_or_refused(self, value: bytes) -> None:
        try:
            found = CsvCodec({"columns": ["a"]}).decode(value)
        except DecodeError:
            return
        assert isinstance(found, dict)
        assert list(found) == ["a"]

    def test_a_forecast_is_a_line_for_each_symbol_that_any_reader_of_csv_takes(self) -> None:
        text = CsvCodec({}).encode(FORECAST).decode()
        columns = ["stream", "as_of", "target", "model", "symbol", "yhat", "lower", "upper", "last"]
        lines = list(csv.DictReader(io.StringIO(text), columns))
        assert [line["symbol"] for line in lines] == ["A", "B"]
        assert lines[1] == {
            **{name: FORECAST[name] for name in ("stream", "as_of", "target", "model")},
            **{"symbol": "B", "yhat": "-0.1", "lower": "-0.2", "upper": "1e-300", "last": "0.0"},
        }

    def test_another_delimiter_goes_in_and_out(self) -> None:
        codec = CsvCodec({"delimiter": ";"})
        assert codec.encode(FORECAST).startswith(b"prices, of mine;")
        assert codec.decode(codec.encode(FORECAST))["yhat"] == FORECAST["yhat"]  # type: ignore[index]


class TestAvro:
    def test_a_message_is_decoded_with_the_schema_that_it_names(self, server: RegistryServer) -> None:
        codec, other = avro(server), server.add({"type": "string"})
        number = server.add(TICK)
        value = written(number, TICK, {"ts": TIME, "prices": {"A": 1.5, "B": None}})
        assert read(codec, value) == {"ts": TEXT, "prices": {"A": 1.5, "B": None}}
        assert read(codec, written(other, {"type": "string"}, "x")) == "x"
        _, tick = decoded(Record(value), RecordMapping(), codec=codec)
        assert (tick.time, tick.prices["A"]) == (TIME, 1.5)
        assert math.isnan(tick.prices["B"])

    def test_each_schema_is_asked_for_once(self, server: RegistryServer) -> None:
        codec, number = avro(server), server.add(TICK)
        value = written(number, TICK, {"ts": TIME, "prices": {}})
        for _ in range(3):
            codec.prepare([value, b"", b"{}", value])
        assert server.requests == [f"/schemas/ids/{number}"]

    @pytest.mark.parametrize(
        ("kind", "datum", "plain"),
        [
            ({"type": "long", "logicalType": "timestamp-millis"}, TIME + 1, "2026-01-05T14:31:00.001000Z"),
            ({"type": "long", "logicalType": "timestamp-micros"}, TIME * 1000 + 1, "2026-01-05T14:31:00.000001Z"),
            ({"type": "long", "logicalType": "timestamp-nanos"}, TIME * 1_000_000, TIME * 1_000_000),
            ({"type": "long", "logicalType": "local-timestamp-millis"}, TIME, "2026-01-05T14:31:00"),
            ({"type": "int", "logicalType": "date"}, 0, "1970-01-01"),
            ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Decimal("190.10"), 190.1),
            (
                {"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2},
                Decimal("-0.05"),
                -0.05,
            ),
            ({"type": "string", "logicalType": "uuid"}, "0" * 8 + "-0000-4000-8000-" + "0" * 12, None),
            (["null", "double"], None, None),
            (["null", "double", "string"], 1.5, 1.5),
            ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, "Y", "Y"),
            (
                {
                    "type": "array",
                    "items": {"type": "record", "name": "P", "fields": [{"name": "s", "type": "string"}]},
                },
                [{"s": "A"}],
                [{"s": "A"}],
            ),
            ("bytes", b"a\xe9", "aé"),
            ("boolean", True, True),
        ],
    )
    def test_logical_types_become_what_they_stand_for(
        self, server: RegistryServer, kind: Any, datum: Any, plain: Any
    ) -> None:
        schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}]}
        found = read(avro(server), written(server.add(schema), schema, {"x": datum}))["x"]
        assert found == (datum if plain is None and datum is not None else plain)
        assert type(found) in (dict, list, str, int, float, bool, type(None))

    @pytest.mark.parametrize("size", [65, 300_000])
    def test_a_decimal_of_more_bytes_than_a_price_has_is_refused(self, server: RegistryServer, size: int) -> None:
        """Its digits would take seconds, which all streams would wait for: their number's square."""
        kind = {"logicalType": "decimal", "precision": 9, "scale": 2}
        schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "bytes", **kind}}]}
        plain = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "bytes"}]}
        number = server.add(schema)
        said = refusal(avro(server), written(number, plain, {"x": b"\x7f" * size}))
        assert said == f"malformed: schema {number} does not fit: ValueError('a decimal of {size} bytes, at most 64')"
        assert read(avro(server), written(number, plain, {"x": b"\0" * 62 + b"\1\0"})) == {"x": 2.56}

        named = {"type": "fixed", "name": "F", "size": size, **kind}
        said = refusal(avro(server), b"\0" + server.add(["null", named]).to_bytes(4, "big") + b"\2" + b"\0" * size)
        assert said.endswith(f"a decimal in it has {size} bytes, at most 64")

    def test_a_local_timestamp_is_a_time_without_zone(self, server: RegistryServer) -> None:
        kind = {"type": "long", "logicalType": "local-timestamp-millis"}
        schema = {**TICK, "fields": [{"name": "ts", "type": kind}, TICK["fields"][1]]}
        local = datetime(2026, 1, 5, 9, 31)
        value = written(server.add(schema), schema, {"ts": local, "prices": {}})
        codec = avro(server)
        codec.prepare([value])
        mapping = RecordMapping(zone=ZoneInfo("America/New_York"))
        assert decoded(Record(value), mapping, codec=codec)[1].time == TIME
        with pytest.raises(DecodeError, match="has no zone"):
            decoded(Record(value), RecordMapping(), codec=codec)

    def test_a_schema_without_the_field_is_named_with_what_it_has(self, server: RegistryServer) -> None:
        codec = avro(server)
        value = written(server.add(TICK), TICK, {"ts": TIME, "prices": {"A": 1.0}})
        codec.prepare([value])
        with pytest.raises(DecodeError) as caught:
            decoded(Record(value), RecordMapping(prices=("data", "close")), codec=codec)
        assert str(caught.value) == "missing_field: data.close: not there; found ts, prices"

    def test_types_of_other_schemas_are_fetched_with_it(self, server: RegistryServer) -> None:
        money = {"type": "record", "name": "a.Money", "fields": [{"name": "amount", "type": "double"}]}
        quote = {"type": "record", "name": "a.Quote", "fields": [{"name": "bid", "type": "a.Money"}]}
        first = server.add(money, "money")
        second = server.add(quote, "quote", references=[{"name": "a.Money", "subject": "money", "version": first}])
        number = server.add(
            {"type": "map", "values": "a.Quote"},
            references=[{"name": "a.Quote", "subject": "quote", "version": second}],
        )
        expanded = {"type": "map", "values": {**quote, "fields": [{"name": "bid", "type": money}]}}
        assert read(avro(server), written(number, expanded, {"A": {"bid": {"amount": 1.5}}})) == {
            "A": {"bid": {"amount": 1.5}}
        }

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (b'{"ts": 0}', "malformed: it begins with b'{\"ts\"', expected a zero byte and the 4 of a schema's id"),
            (b"\0\0\0\0", "malformed: it begins with b'\\x00\\x00\\x00\\x00', expected a zero byte"),
            (b"\0\0\0\0\7", "unknown_schema: the registry at "),
            (b"\0\0\0\0\1\2", "malformed: schema 1 does not fit: EOFError"),
            (b"\0\0\0\0\1\2\0\0", "malformed: schema 1 does not fit: 1 bytes are left"),
            (b"\0\0\0\0\1" + b"\xff" * 20, "malformed: schema 1 does not fit: "),
        ],
    )
    def test_what_is_no_message_is_refused(self, server: RegistryServer, value: bytes, problem: str) -> None:
        server.add(TICK)
        assert refusal(avro(server), value).startswith(problem)

    @pytest.mark.parametrize(
        ("schema", "more", "problem"),
        [
            ("{", {}, "it is no Avro schema: JSONDecodeError"),
            ('{"type": "recrd"}', {}, "it is no Avro schema: "),
            ("[" * 100_000, {}, "it is nested too deeply"),
            ("{}", {"schemaType": "PROTOBUF"}, "it is 'PROTOBUF', expected AVRO"),
            (
                '"string"',
                {"references": [{"name": "x", "subject": "x", "version": 9}]},
                "it refers to one that is not there",
            ),
            ('"string"', {"references": [{"name": "x"}]}, "it is no Avro schema: KeyError"),
            ('"string"', {"references": 7}, "it is no Avro schema: TypeError"),
        ],
    )
    def test_a_schema_of_no_use_is_named_with_what_is_wrong(
        self, server: RegistryServer, schema: str, more: dict[str, Any], problem: str
    ) -> None:
        number = server.add(schema, **more)
        said = refusal(avro(server), b"\0" + number.to_bytes(4, "big") + b"\2a")
        assert said.startswith(f"unknown_schema: schema {number} of the registry at {server.url}: {problem}")

    def test_schemas_that_refer_to_each_other_end(self, server: RegistryServer) -> None:
        for number in (1, 2):
            other = [{"name": "x", "subject": "s", "version": 3 - number}]
            server.add('"string"', "s", references=other)
        assert read(avro(server), b"\0\0\0\0\1\2a") == "a"

    @pytest.mark.parametrize(
        ("schema", "problem"),
        [
            (
                {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]},
                "its type N holds itself",
            ),
            (
                {"type": "record", "name": "M", "fields": [{"name": "n", "type": {"type": "map", "values": "M"}}]},
                "its type M holds itself",
            ),
            ({"type": "array", "items": "null"}, "the items of an array in it have values without bytes"),
            (
                {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
                "the items of an array in it have values without bytes",
            ),
            (
                {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
                "the items of an array in it have values without bytes",
            ),
        ],
    )
    def test_a_schema_by_which_a_few_bytes_exhaust_the_decoder_is_refused(
        self, server: RegistryServer, schema: Any, problem: str
    ) -> None:
        """The first would crash the process, the others would fill its memory with items that take no bytes."""
        number = server.add(schema)
        bomb = b"\0" + number.to_bytes(4, "big") + b"\xfe" * 8 + b"\x01" + b"\2" * 100_000
        assert problem in refusal(avro(server), bomb)

    def test_a_schema_whose_types_double_at_each_level_is_refused(self, server: RegistryServer) -> None:
        inner: Any = {"type": "record", "name": "R0", "fields": []}
        for level in range(1, 60):
            name, before = f"R{level}", f"R{level - 1}"
            inner = {
                "type": "record",
                "name": name,
                "fields": [{"name": "a", "type": inner}, {"name": "b", "type": before}],
            }
        assert "more than 1000 values without bytes" in refusal(avro(server), b"\0\0\0\0" + bytes([server.add(inner)]))

    @given(st.binary(max_size=80))
    def test_any_bytes_are_a_message_or_refused(self, value: bytes) -> None:
        codec = AvroCodec({}, Registry("http://127.0.0.1:1"))
        codec._schemas[1] = _parsed(Registry("http://127.0.0.1:1"), {"schema": json.dumps(TICK)})
        try:
            found = codec.decode(b"\0\0\0\0\1" + value)
        except DecodeError:
            return
        assert isinstance(found, dict)
        assert list(found) == ["ts", "prices"]

    def test_a_registry_that_is_away_is_no_fault_of_the_message(self, server: RegistryServer) -> None:
        codec, value = avro(server), b"\0\0\0\0\1\2a"
        server.fault = lambda request: request.answer(503, "")
        with pytest.raises(RegistryError):
            codec.prepare([value])
        with pytest.raises(RegistryError):
            codec.decode(value)  # nor is one that nobody prepared
        server.fault = lambda request: request.answer(401, "")
        with pytest.raises(RegistryError, match=r"refuses us \(401 "):
            codec.prepare([value])
        server.fault = None
        server.add({"type": "string"})
        assert read(codec, value) == "a"

    def test_a_schema_that_the_registry_will_not_give_stops_no_partition(self, server: RegistryServer) -> None:
        codec = avro(server)
        server.fault = lambda request: request.answer(422, {"message": "Invalid"})
        assert refusal(codec, b"\0\0\0\0\1\2a").endswith("has no /schemas/ids/1 (422 Invalid)")
        server.fault = None
        large = server.add({"type": "string", "doc": "x" * LARGEST_ANSWER})
        said = refusal(avro(server), b"\0" + large.to_bytes(4, "big") + b"\2a")
        assert said.endswith(f"has no /schemas/ids/{large} (more than {LARGEST_ANSWER} bytes)")

    def test_a_schema_that_was_unknown_is_asked_for_again_after_a_while(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codec, value = avro(server), b"\0\0\0\0\1\2a"
        assert "unknown_schema" in refusal(codec, value)
        server.add({"type": "string"})
        assert "unknown_schema" in refusal(codec, value)
        assert len(server.requests) == 1
        monkeypatch.setattr("streamer.codecs.avro._ASK_AGAIN_SECONDS", -1.0)
        assert read(codec, value) == "a"

    def test_a_registry_that_is_away_when_asked_again_is_asked_once_more(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codec, value = avro(server), b"\0\0\0\0\1\2a"
        assert "unknown_schema" in refusal(codec, value)
        monkeypatch.setattr("streamer.codecs.avro._ASK_AGAIN_SECONDS", -1.0)
        server.fault = lambda request: request.answer(503, "")
        with pytest.raises(RegistryError):
            codec.prepare([value])
        server.fault = None
        server.add({"type": "string"})
        assert read(codec, value) == "a"

    @pytest.mark.parametrize("code", [401, 403, 503])
    def test_a_refusal_of_a_schema_that_another_refers_to_is_no_fault_of_the_message(
        self, server: RegistryServer, code: int
    ) -> None:
        def no_versions(request: Handler) -> bool:
            return request.path.startswith("/subjects") and request.answer(code, "")

        first = server.add({"type": "record", "name": "M", "fields": []}, "money")
        number = server.add('"string"', references=[{"name": "M", "subject": "money", "version": first}])
        codec, value = avro(server), b"\0" + number.to_bytes(4, "big") + b"\2a"
        server.fault = no_versions
        with pytest.raises(RegistryError, match=f"{code} "):
            codec.prepare([value])
        server.fault = None
        assert read(codec, value) == "a"

    def test_a_schema_whose_reference_was_unknown_is_asked_for_again_after_a_while(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        number = server.add('"string"', references=[{"name": "M", "subject": "money", "version": 2}])
        codec, value = avro(server), b"\0" + number.to_bytes(4, "big") + b"\2a"
        assert "refers to one that is not there: the registry at" in refusal(codec, value)
        server.add({"type": "record", "name": "M", "fields": []}, "money")
        assert "refers to one that is not there" in refusal(codec, value)
        monkeypatch.setattr("streamer.codecs.avro._ASK_AGAIN_SECONDS", -1.0)
        assert read(codec, value) == "a"

    def test_it_holds_a_bounded_number_of_schemas(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("streamer.codecs.avro._MOST_SCHEMAS", 3)
        codec = avro(server)
        values = [b"\0" + server.add({"type": "string"}).to_bytes(4, "big") + b"\2a" for _ in range(10)]
        for value in values:
            assert read(codec, value) == "a"
        assert len(codec._schemas) == 3
        codec.prepare(values)  # of one batch all are kept
        assert [codec.decode(value) for value in values] == ["a"] * 10

    def test_ids_that_are_made_up_drive_out_no_schema(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Partitions share the codec: what one has prepared, another may not have decoded yet."""
        monkeypatch.setattr("streamer.codecs.avro._MOST_SCHEMAS", 3)
        codec, value = avro(server), b"\0" + server.add({"type": "string"}).to_bytes(4, "big") + b"\2a"
        made_up = [b"\0" + number.to_bytes(4, "big") for number in range(100, 110)]
        codec.prepare([value])
        codec.prepare(made_up)
        assert codec.decode(value) == "a"
        for each in made_up:
            with pytest.raises(DecodeError, match="unknown_schema"):
                codec.decode(each)
        codec.prepare([])
        assert set(codec._schemas) == {1, 107, 108, 109}

    def test_the_schema_that_was_wanted_least_lately_is_driven_out_first(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("streamer.codecs.avro._MOST_SCHEMAS", 3)
        codec = avro(server)
        values = [b"\0" + server.add({"type": "string"}).to_bytes(4, "big") + b"\2a" for _ in range(4)]
        for at in (0, 1, 2, 0, 3):
            codec.prepare([values[at]])
        assert [codec.decode(values[at]) for at in (0, 2, 3)] == ["a"] * 3
        with pytest.raises(RegistryError, match="schema 2 has to be fetched"):
            codec.decode(values[1])

    def test_a_forecast_is_read_back_by_the_schema_that_was_registered(self, server: RegistryServer) -> None:
        codec = avro(server)
        codec.start("forecasts")
        assert server.requests == ["/subjects/forecasts-value/versions"]
        value = codec.encode(FORECAST)
        assert value == codec.encode(FORECAST)
        number = int.from_bytes(value[1:5], "big")
        schema = fastavro.parse_schema(json.loads(server.by_id[number]["schema"]))
        found: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
        assert found["as_of"] == datetime.fromtimestamp(TIME / 1000, UTC)
        assert found["target"].microsecond == 500_000
        assert {name: each for name, each in found.items() if name not in ("as_of", "target")} == {
            name: each for name, each in FORECAST.items() if name not in ("as_of", "target")
        }
        assert read(avro(server), value)["yhat"] == FORECAST["yhat"]

    def test_a_registry_that_cannot_be_used_is_told_at_the_start(self, server: RegistryServer) -> None:
        server.fault = lambda request: request.answer(409, {"message": "incompatible"})
        with pytest.raises(ConfigError, match="409 incompatible"):
            avro(server).start("forecasts")
        server.fault = lambda request: request.answer(401, "")
        with pytest.raises(ConfigError, match="refuses us"):
            avro(server).start(None)
