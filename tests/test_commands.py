"""The command line: help, check-config, and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer import cli
from streamer.codec import shown
from streamer.config import load
from tests.support import CHECKOUT

COMMANDS = ("run", "check-config", "demo", "backtest", "data", "feed", "tail", "dlq", "train", "models", "adjust")
EXAMPLE = CHECKOUT / "config" / "streamer.yaml"


@pytest.fixture(autouse=True)
def without_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests is not theirs."""
    for name in os.environ:
        if name.upper().startswith("STREAMER_"):
            monkeypatch.delenv(name)


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        code = cli.main(arguments)
    except SystemExit as error:  # argparse's way to end
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_shows_how_it_is_called(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = called(capsys, command, "--help")
        assert (code, err) == (0, "")
        assert "examples:" in out
        assert f"\n  streamer {command}" in out

    def test_the_overview_names_each_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = called(capsys, "--help")
        assert code == 0
        listed = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "]
        assert set(COMMANDS) <= set(listed)

    def test_help_answers_without_loading_what_only_the_commands_need(self) -> None:
        program = "import sys\nfrom streamer import cli\ncli._parser()\nprint(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
        heavy = {"numpy", "pandas", "pydantic", "aiokafka", "rich", "confluent_kafka", "tensorflow"}
        assert heavy & set(done.stdout.split()) == set()

    @pytest.mark.parametrize("arguments", [("fly",), (), ("tail", "--topic", "state"), ("demo", "--port", "65536")])
    def test_wrong_usage_is_exit_code_2(self, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = called(capsys, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("usage: streamer")


class TestCheckConfig:
    def test_it_prints_settings_that_load_to_the_same(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for output_format in ([], ["--json"]):
            code, out, err = called(capsys, "check-config", str(EXAMPLE), *output_format)
            assert (code, err) == (0, "")
            printed = tmp_path / "printed.yaml"
            printed.write_text(out)
            assert load(printed, {}) == load(EXAMPLE, {})

    def test_the_json_is_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = called(capsys, "check-config", "-c", str(EXAMPLE), "--json")
        assert json.loads(out)["kafka"]["topics"]["dead_letters"] == "dead-letters"

    @pytest.mark.parametrize("output_format", [[], ["--json"]])
    def test_a_secret_is_masked(
        self, output_format: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("STREAMER_HTTP__TOKEN", "hunter2")
        code, out, err = called(capsys, "check-config", str(EXAMPLE), *output_format)
        assert code == 0
        assert "hunter2" not in out + err
        assert "***" in out

    def test_it_works_from_the_environment_alone(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
        code, out, _ = called(capsys, "check-config")
        assert code == 0
        assert "bootstrap_servers: broker:9092" in out

    def test_each_problem_is_a_line_and_the_exit_code_3(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "streamer.yaml"
        file.write_text("kafka: {bootstrap_servers: 'a:1', grup_id: x}\nfeed:\n  step: never\n")
        code, out, err = called(capsys, "check-config", str(file))
        assert (code, out) == (3, "")
        first, second = err.splitlines()
        assert first.startswith(f"{file}:1: unknown key {shown('kafka.grup_id')}")
        assert second.startswith(f"{file}:3: feed.step: found 'never'")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "input:\n  codec: jsn",
                "3: input.codec: found 'jsn', expected one of avro, csv, json: did you mean 'json'?",
            ),
            ("output:\n  options: {a: 1}", "3: output.options.a: unknown option: this codec has none"),
            (
                "input: {codec: csv, fields: {time: t, prices: '.'},\n  options: {\n    colums: [t, A]}}",
                "4: input.options.colums: unknown option: did you mean 'columns'?",
            ),
            ("input:\n  codec: avro", "3: input.codec: avro needs a schema registry: set registry.url"),
            (
                "output: {codec: avro}\nregistry:\n  url: https://a\n  ca_file: none.pem",
                "5: registry.ca_file: none.pem cannot be read",
            ),
        ],
    )
    def test_what_a_codec_or_the_registry_refuses_is_told_with_its_place(
        self, text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "streamer.yaml"
        file.write_text(f"kafka: {{bootstrap_servers: 'a:1'}}\n{text}\n")
        code, out, err = called(capsys, "check-config", str(file))
        assert (code, out) == (3, "")
        assert err.startswith(f"streamer: {file}:{problem}")

    def test_a_codec_that_the_environment_names_is_told_with_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
        monkeypatch.setenv("STREAMER_OUTPUT__CODEC", "xml")
        _, _, err = called(capsys, "check-config")
        assert err.startswith("streamer: STREAMER_OUTPUT__CODEC: output.codec: found 'xml'")

    def test_two_files_are_wrong_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = called(capsys, "check-config", str(EXAMPLE), "-c", str(EXAMPLE))
        assert (code, out) == (2, "")
        assert err == "streamer: check-config: give the file once, as FILE or as -c FILE\n"


class TestTrain:
    def test_it_names_the_symbols_that_it_takes_differences_of(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config, data = tmp_path / "brief.yaml", tmp_path / "spreads.csv"
        config.write_text("{kafka: {bootstrap_servers: 'a:1'}, fit: {steps: 1}, network: {layers: [{units: 2}]}}")
        rows = [f"2026-01-05T{i // 60:02}:{i % 60:02}:00Z,{100 + i % 7},{i % 5 - 2},{i % 3}" for i in range(200)]
        data.write_text("\n".join(["timestamp,PRICE,SPREAD,FLOW", *rows]))

        code, out, err = called(capsys, "train", str(data), "-c", str(config), "-o", str(tmp_path / "model"), "--json")

        assert code == 0
        assert json.loads(out)["symbols"]["SPREAD"]["n"] > 0
        assert f"{data}: not all prices of SPREAD, FLOW are positive, differences are learned there" in err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("a.csv", "more/a.csv"), "a.csv and more/a.csv have one name, which is to be their stream's: rename one"),
            (("a.csv", "b.csv"), "b.csv has other columns than a.csv: train it by itself"),
            (("a.csv", "c.csv"), "c.csv has other steps than a.csv: train it by itself"),
            (("a.csv", "d.csv"), "d.csv has other kinds of change than a.csv: train it by itself"),
            (
                ("a.csv", "e.csv", "--champion", "none"),
                "--champion: none is no store with a model of 'a' or another of these streams: name the folder that"
                " --output made",
            ),
            (
                ("a.csv", "--champion", "store"),
                "--champion: store is a store of models: name one of them, such as store/a/m",
            ),
        ],
    )
    def test_what_cannot_be_trained_together_or_compared_is_named(
        self,
        arguments: tuple[str, ...],
        said: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, header, first, minutes in (
            ("a", "A", 100, 1),
            ("more/a", "A", 100, 1),
            ("b", "B", 100, 1),
            ("c", "A", 100, 5),
            ("d", "A", -3, 1),
            ("e", "A", 200, 1),
        ):
            at = (divmod(i * minutes, 60) for i in range(120))
            rows = [f"2026-01-05T{hour:02}:{minute:02}:00Z,{first + i % 7}" for i, (hour, minute) in enumerate(at)]
            path = Path(f"{name}.csv")
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join([f"timestamp,{header}", *rows]))
        Path("store/a/m").mkdir(parents=True)
        Path("store/a/m/manifest.json").touch()
        code, out, err = called(capsys, "train", *arguments)
        assert (code, out) == (2, "")
        assert err.splitlines()[-1] == f"streamer: {said}"


@pytest.mark.parametrize("command", ["run", "tail", "check-config"])
def test_a_configuration_that_cannot_be_used_is_exit_code_3(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(capsys, command, "-c", str(tmp_path / "none.yaml"))
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "none.yaml: cannot be read" in err
