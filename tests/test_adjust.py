"""`streamer adjust`: what it takes, and what it sends, to a broker inside this process."""

import asyncio
import json

import pytest

from streamer import cli, control
from streamer.testing import broker
from tests.support import free_port, read_all


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("STREAMER_KAFKA__STARTUP_TIMEOUT", "0s")


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and the last line of standard error."""
    try:
        code = cli.main(["adjust", *arguments])
    except SystemExit as error:  # argparse's way to end
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("A",), "streamer: nothing is said of the symbol: give --split, --ratio or --rename"),
        (("A", "--split", "4"), "argument --split: found '4', expected such as 4:1"),
        (("A", "--split", "0:1"), "argument --split: found '0:1', expected such as 4:1"),
        (("A", "--split", "1:0"), "argument --split: found '0.0', expected a number from 0.000001 to 1000000"),
        (("A", "--ratio", "-1"), "argument --ratio: found '-1', expected a number from 0.000001 to 1000000"),
        (("A", "--ratio", "nan"), "argument --ratio: found 'nan', expected a number from 0.000001 to 1000000"),
        (("A", "--ratio", "2", "--split", "2:1"), "argument --split: not allowed with argument --ratio"),
        (("A", "--rename", ""), "rename: found '', expected a symbol of 1 to 64 printable characters"),
        (("", "--ratio", "2"), "symbol: found '', expected a symbol of 1 to 64 printable characters"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = called(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said.endswith(problem)


def test_a_broker_that_is_away_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = called(capsys, "A", "--ratio", "2")
    assert code == 1
    assert said.startswith("streamer: no Kafka broker answers at 127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "key", "partition", "message"),
    [
        (("--split", "4:1"), None, 0, {"symbol": "A", "ratio": 0.25}),
        (("--split", "1:10"), None, 0, {"symbol": "A", "ratio": 10.0}),
        (("--rename", "B C", "--partition", "2"), None, 2, {"symbol": "A", "rename": "B C"}),
        (("--ratio", "1.5", "--rename", "B", "--stream", "é", "--partition", "3"), "é", 3, None),
    ],
)
def test_what_is_sent_and_where_is_said(
    options: tuple[str, ...],
    key: str | None,
    partition: int,
    message: dict[str, object] | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with broker("prices") as address:
        monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", address)
        code, out, _ = called(capsys, "A", *options)
        [record] = asyncio.run(read_all(address, "prices"))
    assert code == 0
    assert json.loads(record.value) == (message or {"symbol": "A", "ratio": 1.5, "rename": "B"})
    assert control.asked(record.headers) == control.ADJUST
    assert (record.partition, record.key) == (partition, None if key is None else key.encode())
    place = f"prices-{partition} offset 0"
    assert out == f"sent {record.value.decode()} to stream {key or f'prices-{partition}'}, as {place}\n"
