"""`--json` of the commands that send, write and look: one value on standard output, and nothing else there."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streamer import cli, dead_letters, testing


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Settings for a broker in this process, on which one dead letter lies."""
    with testing.broker() as address:
        producer = Producer({"bootstrap.servers": address, "log_level": 0})
        headers: list[tuple[str, str | bytes | None]] = [
            (dead_letters.REASON, b"malformed"),
            (dead_letters.DETAIL, b"no JSON"),
            (dead_letters.TOPIC, b"prices"),
            (dead_letters.PARTITION, b"0"),
            (dead_letters.OFFSET, b"17"),
        ]
        producer.produce("dead-letters", b"\xff{", partition=0, headers=headers)
        producer.flush()
        path = tmp_path / "streamer.json"
        path.write_text(json.dumps({"kafka": {"bootstrap_servers": address}}))
        yield path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What stands on standard output, which has to be one value of JSON."""
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_data_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "prices.csv")
    said = printed(capsys, "data", "sawtooth", "-o", file, "--rows", "20")
    assert (said["file"], said["rows"], said["symbols"]) == (file, 20, ["a", "b"])


def test_feed_says_what_it_sent(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "prices.csv")
    assert cli.main(["data", "sawtooth", "-o", file, "--rows", "20"]) == 0
    said = printed(capsys, "feed", file, "-c", str(config), "--rate", "0", "--keep-times")
    assert (said["topic"], said["rows"], said["sent"], said["interrupted"]) == ("prices", 20, 20, False)
    assert (said["first"], said["last"]) == ("1970-01-01T00:10:00Z", "1970-01-01T00:29:00Z")


def test_adjust_says_what_it_sent_and_where_it_is(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "adjust", "AAPL", "--split", "4:1", "-c", str(config))
    assert said["sent"] == {"symbol": "AAPL", "ratio": 0.25}
    assert (said["stream"], said["topic"], said["partition"], said["offset"]) == ("prices-0", "prices", 0, 0)


def test_a_dead_letter_has_its_headers_and_the_very_bytes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "dlq", "show", "prices-0-17", "-c", str(config))
    assert (said["reason"], said["detail"], said["offset"], said["cut"]) == ("malformed", "no JSON", 17, False)
    assert [dead_letters.REASON, "malformed"] in said["headers"]
    assert base64.b64decode(said["value_base64"]) == b"\xff{"
