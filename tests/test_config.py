"""What can be configured, where from, and what is said of what cannot."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from streamer.codec import DecodeLimits
from streamer.config import SettingsError, load
from streamer.errors import ExitCode
from streamer.service import fitting
from streamer.settings import Fields, Settings, keys, yaml_text
from streamer.settings.types import DURATION, SIZE

SHIPPED = Path(__file__).parent.parent / "config" / "streamer.yaml"
LOGIN = {"mechanism": "PLAIN", "username": "desk"}
SASL = {"kafka.security.protocol": "sasl_ssl"} | {f"kafka.security.{key}": value for key, value in LOGIN.items()}
REGISTRY = {"registry.url": "https://registry:8081", "registry.username": "desk"}
BROKER = {"kafka.bootstrap_servers": "broker:9092"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streamer.yaml"


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n"])
def test_an_empty_file_is_all_defaults_at_the_start_and_one_that_is_being_written_at_a_reload(
    file: Path, text: str
) -> None:
    file.write_text(text)
    assert load(file, {}, BROKER).kafka.bootstrap_servers
    with pytest.raises(SettingsError, match="empty: a file that is being written"):
        load(file, {}, BROKER, again=True)


def test_a_pipe_is_read_once(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(SettingsError, match="is no file, so it cannot be read again: restart the daemon"):
        load(file, {}, BROKER, again=True)


def settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Defaults with some keys changed, `__` for the dots."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load(None, environ or {}, BROKER | dotted)


def problems(path: Path | None, environ: Mapping[str, str] | None = None, **overrides: Any) -> list[str]:
    """What `load` complains of, without the folder's name."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {}, dotted if path else BROKER | dotted)
    assert "\n" not in str(caught.value)
    folder = f"{path.parent}/" if path else ""
    return [problem.replace(folder, "") for problem in caught.value.problems]


def _shipped() -> list[Path]:
    """The configurations that come with it; beside them stands a document of the topics."""
    return sorted(set(SHIPPED.parent.glob("*.yaml")) - {SHIPPED.parent / "asyncapi.yaml"})


class TestDefaults:
    def test_only_the_brokers_have_no_default(self) -> None:
        with pytest.raises(SettingsError, match=r"kafka\.bootstrap_servers: missing.*STREAMER_KAFKA__BOOTSTRAP"):
            load(None, {})

    def test_the_shipped_file_shows_every_key_but_the_secrets_with_its_default(self) -> None:
        assert load(SHIPPED, {}) == load(None, {}, {"kafka.bootstrap_servers": "127.0.0.1:9092"})
        shown = {keys.without_positions(where) for where in yaml_text.read(SHIPPED.read_text()).lines}
        assert shown | set(keys.secret_paths()) == set(keys.paths())

    @pytest.mark.parametrize("path", _shipped(), ids=lambda path: path.name)
    def test_every_shipped_file_loads(self, path: Path) -> None:
        assert load(path, {}).kafka.bootstrap_servers == "127.0.0.1:9092"

    def test_names_that_other_systems_rely_on(self) -> None:
        defaults = settings()
        assert dict(defaults.kafka.topics) == {
            "prices": "prices",
            "forecasts": "forecasts",
            "state": "state",
            "dead_letters": "dead-letters",
        }
        assert (defaults.kafka.group_id, defaults.kafka.delivery) == ("streamer", "exactly_once")
        assert (defaults.feed.step, defaults.feed.step_ms, defaults.feed.max_ahead_ms) == (
            60.0,
            60_000,
            3_600_000,
        )
        assert (defaults.http.host, defaults.http.port) == ("127.0.0.1", 9108)
        assert [layer.units for layer in defaults.network.layers] == [32]
        assert defaults.limits.for_decoding() == DecodeLimits(message_bytes=2**20, symbols=2048, symbol_length=64)

    @pytest.mark.parametrize("path", list(keys.paths()))
    def test_every_key_is_described(self, path: tuple[str, ...]) -> None:
        info = keys.find(path)
        assert isinstance(info, FieldInfo)
        assert info.description
        assert info.description.endswith(".")

    def test_settings_are_immutable(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            settings().http.port = 1


class TestFile:
    def test_an_empty_file_stands_for_all_defaults(self, file: Path) -> None:
        file.write_text("# nothing\n")
        assert load(file, {}, BROKER) == settings()

    def test_a_section_whose_keys_are_all_commented_out_stands_for_its_defaults(self, file: Path) -> None:
        file.write_text("feed:\n#  step: 1s\nkafka:\n")
        assert load(file, {}, BROKER) == settings()

    @pytest.mark.parametrize("indent", [None, 2, "\t"])
    def test_json_loads_too(self, file: Path, indent: int | str | None) -> None:
        data = {"kafka": {"bootstrap_servers": ["a:1", "b:2"]}, "fit": {"learning_rate": 1e-05}, "feed": None}
        file.write_text(json.dumps(data, indent=indent))
        loaded = load(file, {})
        assert loaded.kafka.bootstrap_servers == "a:1,b:2"
        assert loaded.fit.learning_rate == 1e-5

    def test_symbols_that_old_yaml_takes_for_booleans_or_times_are_text(self, file: Path) -> None:
        file.write_text("feed: {symbols: [ON, NO, Y, 1:30, 2024-01-01]}")
        assert load(file, {}, BROKER).feed.symbols == ("ON", "NO", "Y", "1:30", "2024-01-01")

    def test_a_symbol_read_as_a_number_is_refused_lest_its_zeros_are_lost(self, file: Path) -> None:
        file.write_text("feed:\n  symbols:\n    - AAPL\n    - 000001\n")
        assert problems(file, kafka__bootstrap_servers="a:1") == [
            "streamer.yaml:4: feed.symbols[1]: found 1, expected text (in quotes where it looks like a number)"
        ]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("a: 1\nfeed: {\n", "streamer.yaml:3:1: "),
            (
                "feed:\n  step: 1s\n  step: 2s\n",
                "streamer.yaml:3:3: the key 'step' stands twice, first in line 2",
            ),
            ('{"feed": {},\n"feed": {}}', "streamer.yaml:2:1: the key 'feed' stands twice, first in line 1"),
            ("feed: &x {}\nfit: *x\n", "streamer.yaml:2:6: aliases are not read here"),
            ("feed: !!python/object:os.system {}", "streamer.yaml:1:7: the tag"),
            ("feed: !!int 3", "streamer.yaml:1:7: the tag"),
            ("feed: 1\n---\nfeed: 2\n", "streamer.yaml:2:1: expected a single document"),
            ("? [a]\n: 1\n", "streamer.yaml:1:3: a key has to be text"),
            ("feed:\n\tstep: 1s\n", "streamer.yaml:2:1: "),
            ("feed: \x01", "streamer.yaml:1:7: the character '\\x01' is not allowed"),
            ("[" * 5000, "streamer.yaml:1:34: nested too deeply"),
            ("feed: " + "9" * 5000, "streamer.yaml:1:7: an integer of too many digits"),
            ("- feed\n", "streamer.yaml: found a list of 1, expected sections"),
            ("#" * (2**20 + 1), "streamer.yaml: larger than 1048576 bytes"),
        ],
    )
    def test_what_is_no_settings_file_is_refused_with_line_and_column(
        self, file: Path, content: str, problem: str
    ) -> None:
        file.write_text(content)
        (found,) = problems(file)
        assert found.startswith(problem)

    def test_a_file_that_is_not_utf8_is_refused(self, file: Path) -> None:
        file.write_bytes(b"feed: \xff")
        assert "UTF-8" in problems(file)[0]

    def test_a_file_that_is_not_there_is_named(self, file: Path) -> None:
        assert problems(file) == ["streamer.yaml: cannot be read: No such file or directory"]


class TestPrecedence:
    def test_the_environment_counts_more_than_the_file_and_overrides_count_most(self, file: Path) -> None:
        file.write_text("scoring: {window: 1}\nstate: {every: 1}\nmodels: {keep: 1}\n")
        environ = {"STREAMER_STATE__EVERY": "2", "STREAMER_MODELS__KEEP": "2"}
        loaded = load(file, environ, BROKER | {"models.keep": 3})
        assert (loaded.scoring.window, loaded.state.every, loaded.models.keep) == (1, 2, 3)

    def test_a_variable_reaches_deeper_keys_and_leaves_their_neighbours(self, file: Path) -> None:
        file.write_text("kafka: {bootstrap_servers: 'a:1', topics: {state: s}}")
        topics = load(file, {"STREAMER_KAFKA__TOPICS__PRICES": "ticks"}).kafka.topics
        assert (topics.prices, topics.state, topics.forecasts) == ("ticks", "s", "forecasts")

    def test_a_deeper_variable_counts_more_than_that_of_its_section(self) -> None:
        environ = {"STREAMER_KAFKA__TOPICS__PRICES": "b", "STREAMER_KAFKA__TOPICS": "{prices: a, state: s}"}
        topics = settings(environ).kafka.topics
        assert (topics.prices, topics.state) == ("b", "s")

    def test_variables_are_of_any_case(self) -> None:
        assert settings({"streamer_Http__PORT": "1"}).http.port == 1

    @pytest.mark.parametrize("name", ["STREAMER_TEST_BOOTSTRAP", "STREAMER_X", "OTHER_HTTP__PORT", "PATH"])
    def test_variables_that_are_not_ours_are_ignored(self, name: str) -> None:
        assert settings({name: "[1"}) == settings()

    def test_values_of_variables_are_yaml(self) -> None:
        loaded = settings(
            {
                "STREAMER_FEED__SYMBOLS": "[A, ON]",
                "STREAMER_NETWORK__LAYERS": "[{units: 300}, {units: 500, dropout: .2}]",
                "STREAMER_KAFKA__CREATE_TOPICS": "false",
                "STREAMER_KAFKA__BOOTSTRAP_SERVERS": "[a:1, b:2]",
                "STREAMER_FEED__STEP": "500ms",
                "STREAMER_KAFKA__REPLICATION_FACTOR": "",
            }
        )
        assert loaded.feed.symbols == ("A", "ON")
        assert [(layer.units, layer.dropout) for layer in loaded.network.layers] == [(300, 0.0), (500, 0.2)]
        assert loaded.kafka.create_topics is False
        assert settings({"STREAMER_KAFKA__BOOTSTRAP_SERVERS": "x:1"}).kafka.bootstrap_servers == "broker:9092"
        assert loaded.feed.step == 0.5
        assert loaded.kafka.replication_factor is None

    @pytest.mark.parametrize("text", ["007", "true", "a # b", "{a", "[a"])
    def test_the_value_of_a_key_that_is_text_stays_as_it_is(self, text: str) -> None:
        assert settings({"STREAMER_KAFKA__GROUP_ID": text}).kafka.group_id == text

    @pytest.mark.parametrize(("text", "combine"), [("off", False), ("on", True), ("false", False)])
    def test_the_mix_is_switched_on_and_off(self, text: str, combine: bool) -> None:
        assert settings({"STREAMER_FIT__COMBINE": text}).fit.combine is combine

    def test_an_override_given_as_text_is_read_as_a_variable_is(self) -> None:
        assert settings(http__port="0").http.port == 0
        assert settings(kafka__group_id="7").kafka.group_id == "7"

    def test_a_variables_value_that_is_not_yaml_is_refused(self) -> None:
        (found,) = problems(None, {"STREAMER_FEED__SYMBOLS": "[A"})
        assert found.startswith("STREAMER_FEED__SYMBOLS: feed.symbols: not YAML: ")


class TestErrors:
    def test_an_unknown_key_is_refused_with_the_nearest_known_one(self, file: Path) -> None:
        file.write_text("kafka:\n  bootstrap_server: a:1\n")
        assert problems(file, kafka__bootstrap_servers="a:1") == [
            "streamer.yaml:2: unknown key 'kafka.bootstrap_server': did you mean 'kafka.bootstrap_servers'?"
        ]

    @pytest.mark.parametrize(
        ("content", "hint"),
        [
            ("feeed: {}", "did you mean 'feed'?"),
            ("FEED: {}", "did you mean 'feed'?"),
            ("port: 1", "did you mean 'http.port'?"),
            ("kafka: {window: 3}", "did you mean 'feed.window'?"),
            ("kafka: {topics: {dead-letters: x}}", "did you mean 'kafka.topics.dead_letters'?"),
            ("network: {layers: [{units: 1}, {unit: 1}]}", "did you mean 'network.layers[1].units'?"),
            ("log: {xyz: 1}", "the keys here are level, format"),
        ],
    )
    def test_the_nearest_key_is_sought_here_and_then_elsewhere(self, file: Path, content: str, hint: str) -> None:
        file.write_text(content)
        (found,) = problems(file, kafka__bootstrap_servers="a:1")
        assert found.startswith("streamer.yaml:1: unknown key ")
        assert found.endswith(hint)

    def test_the_first_of_several_problems_is_told_with_how_to_see_all(self, file: Path) -> None:
        file.write_text("kafka: {bootstrap_servers: 'a:1'}\nhttp: {port: -1}\nlogg: 1\nstate:\n  every: 0\n")
        with pytest.raises(SettingsError) as caught:
            load(file, {})
        assert str(caught.value) == (
            f"{file}:3: unknown key 'logg': did you mean 'log'? (and 2 more; streamer check-config shows all)"
        )
        assert caught.value.problems[1:] == (
            f"{file}:5: state.every: found 0, expected at least 1",
            f"{file}:2: http.port: found -1, expected at least 0",
        )
        assert caught.value.exit_code == ExitCode.UNMENDABLE

    def test_the_variable_or_override_that_gave_a_value_is_named(self) -> None:
        assert problems(None, {"STREAMER_FOO__BAR": "1"}, http__port=70000) == [
            "STREAMER_FOO__BAR: unknown key 'foo': the keys here are kafka, input, output, registry, feed, "
            "network, fit, retrain, gate, models, scoring, interval, state, streams, limits, http, log, daemon",
            "override http.port: http.port: found 70000, expected at most 65535",
        ]

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("kafka.bootstrap_servers", "localhost", "expected host:port"),
            ("kafka.bootstrap_servers", "localhost:0", "expected host:port"),
            ("kafka.bootstrap_servers", "a:1,,b:2", "expected host:port"),
            ("kafka.bootstrap_servers", [], "expected host:port"),
            ("kafka.group_id", " ", "expected printable text"),
            ("kafka.group_id", 7, "expected text"),
            ("kafka.topics.prices", "a/b", "expected a Kafka name"),
            ("kafka.topics.prices", "..", "expected a Kafka name"),
            ("kafka.delivery", "twice", "expected 'exactly_once' or 'at_least_once'"),
            ("kafka.start", "2024-01-01T00:00:00", "an ISO-8601 time with a zone"),
            ("kafka.start", 1704067200000, "an ISO-8601 time with a zone"),
            ("kafka.create_topics", 1, "found 1, expected true or false"),
            ("feed.step", "0s", "found '0s', expected at least 1ms"),
            ("input.close_after", "0s", "found '0s', expected at least 1ms"),
            ("feed.step", "1ns", "expected a duration such as 500ms"),
            ("feed.step", True, "found true, expected a duration"),
            ("feed.step", float("nan"), "found nan, expected a duration"),
            ("feed.step", "2d", "expected at most 1d"),
            ("feed.step", 1.0005, "expected a whole number of milliseconds"),
            ("feed.symbols", ["A", "A"], "expected each symbol once"),
            ("feed.symbols", ["A\n"], "expected a symbol"),
            ("feed.symbols", "A, B", "found 'A, B', expected a list, such as [A, B]"),
            ("feed.symbols", "A]", "found 'A]', expected a list"),
            ("input.fields", "ts", "found 'ts', expected a value such as {time: ts, prices: prices}"),
            ("scoring", 3, "found 3, expected a section with the keys window"),
            ("feed.window", 1.5, "found 1.5, expected a whole number"),
            ("feed.window", True, "found true, expected a whole number"),
            ("network.layers", [], "expected 1 to 8 layers"),
            ("network.layers", [{}] * 9, "expected 1 to 8 layers"),
            (
                "network.layers",
                [{"dropout": 1.0}],
                "network.layers[0].dropout: found 1.0, expected less than 1",
            ),
            ("fit.learning_rate", float("inf"), "found inf, expected a finite number"),
            ("fit.learning_rate", 0.0, "found 0.0, expected more than 0"),
            ("retrain.memory_limit", "1MiB", "found '1MiB', expected at least 256MiB"),
            ("retrain.memory_limit", "-1GiB", "expected a size such as 512MiB"),
            ("http", 3, "found 3, expected a section"),
            ("input.fields.time", 3, "found 3, expected a path such as ts or data.close"),
            ("input.fields.time", "a..b", "found 'a..b', expected a path"),
            ("input.fields.time", "$stamp", "found '$stamp', expected a path such as"),
            ("input.fields.time", "$header", "or $key, $header.NAME, $timestamp"),
            ("input.fields.prices", ["a", 1], "found a list of 2, expected a path"),
            ("input.fields.prices", ["a"] * 33, "found a list of 33, expected a path"),
            ("input.options", {"a": [math.nan]}, "found an object, expected names with texts, finite numbers"),
            ("input.options", ["columns"], "found a list of 1, expected keys with values"),
            ("input.timezone", "Mars/Olympus", "found 'Mars/Olympus', expected a zone of the IANA"),
            ("input.timezone", "../etc/passwd", "expected a zone of the IANA"),
            ("input.time_unit", "m", "found 'm', expected 's', 'ms', 'us' or 'ns'"),
            ("registry.url", "file:///etc/passwd", "expected an address such as https://registry:8081"),
            ("registry.url", "http://desk:secret@registry:8081", "an address without user and password"),
            ("registry.timeout", "0s", "found '0s', expected at least 100ms"),
            ("http.token_file", 3, "found 3, expected a path"),
        ],
    )
    def test_an_unusable_value_is_told_with_what_is_expected(self, key: str, value: Any, expected: str) -> None:
        with pytest.raises(SettingsError) as caught:
            load(None, {}, BROKER | {key: value})
        (problem,) = caught.value.problems
        assert problem.startswith(f"override {key}: {key}")
        assert expected in problem

    @pytest.mark.parametrize(
        ("overrides", "problem"),
        [
            (
                {"kafka__session_timeout": "20s"},
                "kafka.transaction_timeout: found 20s, expected less than kafka.sess",
            ),
            (
                {"kafka__topics__state": "prices"},
                "kafka.topics.state: found 'prices', expected another name than",
            ),
            (
                {"kafka__topics__state": "a.b", "kafka__topics__prices": "a_b"},
                "kafka.topics.state: found 'a.b', expected another name than topics.prices has",
            ),
            (
                {"feed__symbols": ["A"], "feed__targets": ["B"]},
                "feed.targets: found 'B', expected only symbols that",
            ),
            ({"feed__window": 200}, "retrain.first: found 500, expected at least 600 (3 x feed.window)"),
            ({"retrain__history": 499}, "retrain.history: found 499, expected at least retrain.first (500)"),
            (
                {"gate__fraction": 0.7},
                "gate.fraction: found 0.7, expected at most 0.8 with gate.stop_fraction",
            ),
            (
                {"feed__symbols": ["A", "B"], "limits__symbols": 1},
                "feed.symbols: found 2 symbols, expected at most 1 (limits.symbols)",
            ),
            (
                {"input__fields__prices": None},
                "input.fields.symbol: found null, expected a path, as fields.prices is null: one symbol a message",
            ),
            (
                {"input__fields": {"prices": None, "symbol": "s", "price": "."}},
                "input.fields.price: found '.', expected a path, as fields.prices is null",
            ),
            (
                {"input__fields": {"prices": None, "symbol": "s", "price": "$timestamp"}},
                "input.fields.price: found '$timestamp', expected a path, as fields.prices is null",
            ),
            (
                {"input__fields": {"prices": None, "symbol": "s", "price": "ts"}},
                "input.fields.price: found 'ts', expected another path than that of fields.time, 'ts'",
            ),
            (
                {"input__fields": {"prices": None, "symbol": "q", "price": "q.px"}},
                "input.fields.price: found 'q.px', expected another path than that of fields.symbol, 'q'",
            ),
            (
                {"input__fields": {"time": "x", "prices": "x"}},
                "input.fields.prices: found 'x', expected another path than that of fields.time, 'x'",
            ),
            (
                {"input__fields": {"time": "x", "prices": "x.data"}},
                "input.fields.prices: found 'x.data', expected another path than that of fields.time, 'x'",
            ),
            (
                {"input__fields__key": "prices"},
                "input.fields.prices: found 'prices', expected another path than that of fields.key, 'prices'",
            ),
            (
                {"input__fields__key": "ts"},
                "input.fields.key: found 'ts', expected another path than that of fields.time",
            ),
            ({"input__fields__key": "$timestamp"}, "input.fields.key: found '$timestamp', expected a path, $key, "),
            (
                {"input__fields": {"symbol": "s", "price": "s"}},
                "input.fields.price: found 's', expected another member than that of fields.symbol, 's'",
            ),
            (
                {"input__fields": {"prices": ".", "symbol": "s", "price": "p"}},
                "input.fields.prices: found '.', expected null (one symbol a message), or the path of a list of"
                " objects: fields.symbol 's' makes the message itself a list, in which there is no fields.time 'ts'",
            ),
            (
                {"input__fields__symbol": "s"},
                "input.fields.price: found null, expected the member with the price, as fields.symbol is set",
            ),
            (
                {"input__fields": {"symbol": "$key", "price": "p"}},
                "input.fields.symbol: found '$key', expected a member of the objects at fields.prices",
            ),
            (
                {"input__fields__price": "$header.bid"},
                "input.fields.price: found '$header.bid', expected a member of the objects at fields.prices",
            ),
            ({"input__fields__prices": "$key"}, "input.fields.prices: found '$key', expected a path in the value"),
            (
                {"input__fields__time": "."},
                "input.fields.time: found '.', expected the path of the time, or $timestamp",
            ),
            ({"input__fields__time": None}, "input.fields.time: found null, expected the path of the time"),
            ({"input__fields__time": "$partition"}, "input.fields.time: found '$partition', expected the path of"),
            ({"input__fields__key": "."}, "input.fields.key: found '.', expected a path, $key, $partition, or null"),
            (
                {"input__codec": "csv"},
                "input.options.columns: found nothing, expected the names of the columns, in order, with codec csv",
            ),
            (
                {"input__codec": "csv", "input__options": {"columns": ["t", "A"]}},
                "input.fields.prices: found 'prices', expected '.' (a column for each symbol) or null with codec csv",
            ),
            ({"registry__username": "desk"}, "registry.username: found a value, expected none without registry.url"),
            (
                {"registry__url": "http://a:1", "registry__password": "p"},
                "registry.username: found null, expected the user that registry.password belongs to",
            ),
            (
                {"registry__url": "http://a:1", "registry__ca_file": "ca.pem"},
                "registry.ca_file: found 'ca.pem', expected none with an address of http://",
            ),
            (
                {"feed__symbols": ["AB"], "limits__symbol_length": 1},
                "feed.symbols: found a symbol of 2 characters, expected at most 1 (limits.symbol_length)",
            ),
            (
                {"input__close": "complete", "feed__symbols": ["A"]},
                "input.close: found complete, expected input.assemble: last beside it",
            ),
            ({"input__close_after": "90s"}, "input.close_after: found 90s, expected input.assemble: last beside it"),
            (
                {"input__close": "complete", "input__assemble": "last"},
                "input.close: found complete, expected feed.symbols beside it",
            ),
        ],
    )
    def test_keys_that_do_not_go_together_are_refused(self, overrides: dict[str, Any], problem: str) -> None:
        (found,) = problems(None, **overrides)
        assert problem in found

    @pytest.mark.parametrize(
        "fields",
        [
            {"time": "at", "prices": None, "symbol": "s", "price": "p", "key": "s"},
            {"time": "at", "prices": None, "symbol": "$header.a", "price": "$header.b", "key": "$key"},
            {"time": "q.t", "prices": "q"},
            {"time": "t", "prices": ".", "key": "venue"},
            {"time": "0.t", "prices": ".", "symbol": "s", "price": "p"},
            {"time": "$header.at", "prices": ".", "symbol": "q.s", "price": "q.p"},
        ],
    )
    def test_paths_that_may_make_sense_are_taken(self, fields: dict[str, Any]) -> None:
        Fields.model_validate(fields)


class TestPaths:
    @pytest.mark.parametrize(
        ("written", "path", "shown"),
        [
            ("data.close", ("data", "close"), "data.close"),
            (["data", "close"], ("data", "close"), "data.close"),
            (["data", "BRK.B"], ("data", "BRK.B"), ["data", "BRK.B"]),
            (".", (), "."),
            ([], (), "."),
            ("0", ("0",), "0"),
            (["x", "$date"], ("x", "$date"), "x.$date"),
            (None, None, None),
        ],
    )
    def test_a_path_is_text_or_a_list_and_shown_so_that_it_is_read_back(
        self, written: Any, path: Any, shown: Any
    ) -> None:
        fields = Fields.model_validate({"time": "$timestamp", "prices": written, "symbol": "s", "price": "p"})
        assert fields.prices == path
        assert fields.model_dump()["prices"] == shown
        assert Fields.model_validate(fields.model_dump()) == fields

    @pytest.mark.parametrize(
        ("written", "path"),
        [
            ("$key", ("$key",)),
            ("$header.x.y", ("$header", "x.y")),
            ("$timestamp", ("$timestamp",)),
            (["$date", "x"], ("$date", "x")),  # no part of the record, but a name in the value
        ],
    )
    def test_other_parts_of_the_record_are_named_and_read_back(self, written: Any, path: Any) -> None:
        fields = Fields.model_validate({"time": written})
        assert fields.time == path
        assert fields.model_dump()["time"] == written

    def test_a_variable_names_a_path_too(self) -> None:
        loaded = settings({"STREAMER_INPUT__FIELDS__PRICES": "data.close", "STREAMER_INPUT__FIELDS__TIME": "[a, b.c]"})
        assert (loaded.input.fields.prices, loaded.input.fields.time) == (("data", "close"), ("a", "b.c"))


class TestSecrets:
    def test_a_secret_in_the_file_is_refused_and_not_shown(self, file: Path) -> None:
        file.write_text("kafka: {bootstrap_servers: 'a:1'}\nhttp:\n  token: hunter2\n")
        assert problems(file) == [
            "streamer.yaml:3: http.token: a secret does not belong in the file: "
            "set STREAMER_HTTP__TOKEN or http.token_file"
        ]

    @pytest.mark.parametrize("token", ["0012300", "#b4f1", "{abc"])
    def test_a_token_from_the_environment_is_taken_as_it_is_and_never_shown(self, token: str) -> None:
        loaded = settings({"STREAMER_HTTP__TOKEN": f"{token}\n"})
        assert loaded.http.token is not None
        assert loaded.http.token.get_secret_value() == token
        assert token not in repr(loaded) + str(loaded) + loaded.effective()
        assert "token: '***'" in loaded.effective()

    def test_an_unusable_token_is_not_shown_in_the_error(self) -> None:
        (found,) = problems(None, {"STREAMER_HTTP__TOKEN": "hunter 2"})
        assert found.startswith("STREAMER_HTTP__TOKEN: http.token: found ***, expected a token")

    def test_an_empty_variable_is_no_token(self) -> None:
        assert settings({"STREAMER_HTTP__TOKEN": ""}).http.token is None

    def test_a_token_file_is_read_without_its_last_newline(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("s3cret\n")
        token = settings(http__token_file=str(tmp_path / "token")).http.token
        assert token is not None
        assert token.get_secret_value() == "s3cret"

    def test_a_token_file_that_is_a_pipe_is_not_opened_at_a_reload(self, tmp_path: Path) -> None:
        """Nobody may ever write to it."""
        os.mkfifo(tmp_path / "token")
        with pytest.raises(SettingsError, match="is no file, so it cannot be read again: restart the daemon"):
            load(None, {}, BROKER | {"http.token_file": str(tmp_path / "token")}, again=True)

    @pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff", b"x" * 5000])
    def test_a_token_file_without_a_token_is_refused_and_not_shown(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "token"
        path.write_bytes(content)
        (found,) = problems(None, http__token_file=path)
        assert found.startswith(f"override http.token_file: http.token_file: {path}: ")
        assert "two" not in found
        assert "0xff" not in found

    def test_a_token_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        (found,) = problems(None, http__token_file=tmp_path / "token")
        assert found.endswith(f"http.token_file: {tmp_path}/token cannot be read: No such file or directory")

    def test_a_token_and_a_token_file_together_are_refused(self, tmp_path: Path) -> None:
        (found,) = problems(None, {"STREAMER_HTTP__TOKEN": "a"}, http__token_file=tmp_path / "token")
        assert "http.token is set too" in found

    @pytest.mark.parametrize(
        ("key", "secret"),
        [
            ("kafka.security.password", " a 'b' = {c} "),
            ("kafka.security.key_password", "0012300"),
            ("models.hmac_key", "0123456789abcdef" * 2),
            ("registry.password", " a 'b' = {c} "),
        ],
    )
    def test_every_secret_comes_from_the_environment_or_a_file_and_is_shown_nowhere(
        self, tmp_path: Path, key: str, secret: str
    ) -> None:
        variable = "STREAMER_" + key.replace(".", "__").upper()
        path = tmp_path / "secret"
        path.write_text(f"{secret}\n")
        for environ in ({variable: secret}, {f"{variable}_FILE": str(path)}):
            loaded = load(None, environ, BROKER | SASL | REGISTRY | {"kafka.security.cert_file": "cert.pem"})
            found: Any = loaded
            for name in key.split("."):
                found = getattr(found, name)
            assert found.get_secret_value() == secret
            shown = [
                repr(loaded),
                str(loaded),
                loaded.effective(),
                str(loaded.model_dump()),
                fitting.configuration(loaded),
            ]
            assert not [text for text in shown if secret in text]

    def test_a_training_is_told_neither_the_secrets_nor_where_they_are(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s3cret" * 10)
        files = {f"{'.'.join(path)}_file": str(tmp_path / "secret") for path in keys.secret_paths()}
        given = BROKER | SASL | REGISTRY | {"kafka.security.cert_file": "cert.pem"} | files
        told = fitting.configuration(load(None, {}, given))
        assert str(tmp_path) not in told
        assert "s3cret" not in told
        assert "'***'" not in told
        (tmp_path / "config.yaml").write_text(told)
        load(tmp_path / "config.yaml", {})

    @pytest.mark.parametrize("secret", ["two\nlines", "nul\0byte", ""])
    def test_a_password_file_of_no_use_is_refused_and_not_shown(self, tmp_path: Path, secret: str) -> None:
        path = tmp_path / "password"
        path.write_text(secret)
        with pytest.raises(SettingsError) as caught:
            load(None, {}, BROKER | SASL | {"kafka.security.password_file": str(path)})
        assert str(caught.value) == (
            f"override kafka.security.password_file: kafka.security.password_file: {path}: "
            "expected a password: printable text on one line"
        )

    def test_a_short_signing_key_is_refused_with_the_way_to_make_one(self) -> None:
        (found,) = problems(None, {"STREAMER_MODELS__HMAC_KEY": "k" * 31})
        assert found.startswith("STREAMER_MODELS__HMAC_KEY: models.hmac_key: found ***, expected a key of at least 32")
        assert "openssl rand -hex 32" in found


class TestKafkaSecurity:
    def test_a_check_needs_no_password(self) -> None:
        assert load(None, {}, BROKER | SASL).kafka.security.password is None

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ({"protocol": "tls"}, "protocol: found 'tls', expected 'plaintext', 'ssl', 'sasl_plaintext' or 'sasl_ssl'"),
            ({"mechanism": "GSSAPI"}, "mechanism: found 'GSSAPI', expected 'PLAIN', 'SCRAM-SHA-256' or"),
            ({"password": "a"}, "password: found a secret, expected none with protocol plaintext; set"),
            ({"protocol": "ssl", "username": "u"}, "username: found 'u', expected none with protocol ssl; set"),
            ({"protocol": "ssl", "mechanism": "PLAIN"}, "mechanism: found 'PLAIN', expected none with protocol ssl"),
            ({"ca_file": "ca.pem"}, "ca_file: found 'ca.pem', expected none with protocol plaintext; set"),
            (
                {**LOGIN, "protocol": "sasl_plaintext", "ca_file": "ca.pem"},
                "ca_file: found 'ca.pem', expected none with",
            ),
            ({"protocol": "ssl", "key_file": "key.pem"}, "key_file: found 'key.pem', expected none without kafka.sec"),
            ({"protocol": "ssl", "key_password": "a"}, "key_password: found a secret, expected none without kafka.sec"),
            ({"protocol": "sasl_ssl", "username": "u"}, "mechanism: found null, expected PLAIN, SCRAM-SHA-256 or"),
            ({"protocol": "sasl_ssl", "mechanism": "PLAIN"}, "username: found null, expected the user to log in as"),
        ],
    )
    def test_what_does_not_go_together_is_one_line(self, values: dict[str, str], problem: str) -> None:
        overrides = {f"kafka.security.{key}": value for key, value in values.items()}
        with pytest.raises(SettingsError) as caught:
            load(None, {}, BROKER | overrides)
        (found,) = caught.value.problems
        assert f"kafka.security.{problem}" in found

    def test_an_unknown_key_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(SettingsError, match=r"did you mean 'kafka\.security\.username'\?"):
            load(None, {}, BROKER | {"kafka.security.user": "u"})


class TestEffective:
    def test_effective_settings_load_again(self, file: Path) -> None:
        shown = settings(
            feed__symbols=["ON", "1e3", "007", "a: b", "é"],
            feed__step="1500ms",
            kafka__start="2024-01-01T01:00:00+01:00",
            retrain__memory_limit="300MB",
            network__layers=[{"units": 3, "dropout": 0.25}, {"units": 2}],
        )
        file.write_text(shown.effective())
        assert load(file, {}) == shown

    def test_the_mask_of_a_secret_is_no_secret_when_loaded_again(self, file: Path) -> None:
        shown = settings({"STREAMER_HTTP__TOKEN": "abc"})
        file.write_text(shown.effective())
        assert load(file, {}) == settings()

    def test_every_key_is_shown(self) -> None:
        shown = yaml_text.read(settings().effective()).lines
        assert {keys.without_positions(where) for where in shown} == set(keys.paths())


class TestQuantities:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("500ms", 0.5),
            ("60s", 60),
            ("1.5 h", 5400),
            ("5m", 300),
            ("30d", 2592000),
            ("7", 7),
            (0.25, 0.25),
            (3, 3),
        ],
    )
    def test_durations_are_seconds(self, text: object, seconds: float) -> None:
        assert DURATION.parse(text) == seconds

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("4GiB", 2**32),
            ("512MiB", 2**29),
            ("1MB", 10**6),
            ("1kB", 1000),
            ("1KB", 1000),
            ("1.5KiB", 1536),
            (7, 7),
        ],
    )
    def test_sizes_are_bytes(self, text: object, size: int) -> None:
        parsed = SIZE.parse(text)
        assert parsed == size
        assert isinstance(parsed, int)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "s",
            "-1s",
            "1 2s",
            "1e3s",
            "nan",
            "inf",
            "1 week",
            "٣s",
            -1,
            -0.5,
            float("inf"),
            None,
            True,
            [],
            "9" * 41,
        ],
    )
    def test_what_is_no_duration_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="a duration such as"):
            DURATION.parse(text)

    @given(st.floats(0, 2**53, allow_subnormal=False))
    def test_a_duration_is_shown_so_that_it_is_read_back_equal(self, seconds: float) -> None:
        shown = DURATION.render(seconds)
        if len(shown) <= 40:
            assert DURATION.parse(shown) == seconds

    @given(st.integers(0, 2**53))
    def test_a_size_is_shown_so_that_it_is_read_back_equal(self, size: int) -> None:
        assert SIZE.parse(SIZE.render(size)) == size

    @pytest.mark.parametrize(
        ("seconds", "shown"), [(0.0, "0s"), (60.0, "1m"), (90.0, "90s"), (3600.0, "1h"), (0.25, "250ms")]
    )
    def test_a_duration_is_shown_in_its_largest_whole_unit(self, seconds: float, shown: str) -> None:
        assert DURATION.render(seconds) == shown


class TestStart:
    def test_a_start_time_is_milliseconds(self) -> None:
        assert settings(kafka__start="2024-01-01T00:00:00.5Z").kafka.start_time == 1704067200500

    @pytest.mark.parametrize("start", ["warm", "earliest", "latest"])
    def test_a_start_by_name_has_no_time(self, start: str) -> None:
        assert settings(kafka__start=start).kafka.start_time is None


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
def test_any_text_as_yaml_reads_or_is_refused_with_a_place(text: str) -> None:
    try:
        document = yaml_text.read(text)
    except yaml_text.YamlError as error:
        place = (error.line, error.column)
        assert min(place) >= 1
    else:
        assert isinstance(document.lines, dict)


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]))


@given(st.dictionaries(texts, st.recursive(plain | texts, lambda inner: st.lists(inner, max_size=4), max_leaves=8)))
def test_what_is_written_as_yaml_is_read_back_equal(data: dict[str, Any]) -> None:
    assert yaml_text.read(yaml_text.write(data)).data == (data or {})
