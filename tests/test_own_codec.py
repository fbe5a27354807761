"""A codec of the user's own, from the page that explains it to the configuration that names it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer import codecs
from streamer.errors import ConfigError, DecodeError
from streamer.settings import yaml_text
from tests.messages import Record, decoded
from tests.own_codec import blocks, install
from tests.support import CHECKOUT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("codec"))


def check_config(installed: Path | None, config: Path) -> tuple[int, str, str]:
    path = os.pathsep.join(map(str, filter(None, (installed, CHECKOUT))))
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "check-config", config, "--json"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_example_of_the_page_is_found_once_it_is_installed(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    [settings] = blocks("yaml")
    config.write_text(f"kafka: {{bootstrap_servers: 'a:1'}}\n{settings}")
    code, out, err = check_config(installed, config)
    assert (code, err) == (0, "")
    assert json.loads(out)["input"]["codec"] == "pairs"
    code, out, err = check_config(None, config)
    assert (code, out) == (3, "")
    assert err.startswith(
        f"streamer: {config}:3: input.codec: found 'pairs', expected one of avro, csv, json: a codec of your own has"
    )
    assert len(err.splitlines()) == 1
    config.write_text("kafka: {bootstrap_servers: 'a:1'}\ninput: {codec: pairs, options: {between: 1}}\n")
    assert (
        check_config(installed, config)[2] == f"streamer: {config}:2: input.options.between: found 1, expected text\n"
    )


def test_the_example_of_the_page_reads_and_writes(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamer.config import load

    monkeypatch.syspath_prepend(str(installed))
    [text] = blocks("yaml")
    data = yaml_text.read(text).data
    settings = load(None, {}, {"kafka.bootstrap_servers": "a:1", **data})
    codec = codecs.load("input", settings.input.codec, {}, None)
    record = Record(b"t=2026-01-05T14:31:00Z|AAPL=190.1|MSFT=")
    _, tick = decoded(record, settings.input.mapping, codec=codec)
    assert (tick.time, tick.prices["AAPL"], list(tick.prices)) == (1_767_623_460_000, 190.1, ["AAPL", "MSFT"])
    with pytest.raises(DecodeError, match="malformed: expected name=value"):
        decoded(Record(b"no pairs"), settings.input.mapping, codec=codec)
    assert codec.encode({"target": "t0", "yhat": {"A": 1.5}}) == b"t=t0|A=1.5"


def test_a_codec_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    information = tmp_path / "broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[streamer.codecs]\nbroken = no_such_module:Codec\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"input\.codec: 'broken' \(no_such_module:Codec\) cannot be loaded: ModuleNot"
    ):
        codecs.load("input", "broken", {}, None)
