"""`streamer models`: the store in columns and JSON, and the daemon asked over HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streamer import cli
from streamer.errors import StreamerError
from streamer.model.artifact import Artifact
from streamer.model.store import ModelStore
from streamer.service.health import Health
from streamer.service.http import HttpServer
from streamer.service.metrics import Metrics
from tests.model.helpers import STEP, artifact
from tests.support import free_port

TOKEN = "a-token-of-the-tests"
GATE = {
    "symbols": {"A": {"n": 15, "rmse": 0.98, "incumbent_rmse": None, "persistence_rmse": 1.0}},
    "ratio": 0.98123456,
    "persistence_ratio": 0.98123456,
    "promoted": True,
    "reason": "promoted: RMSE 0.9812 of persistence's, must be below 1",
}


def judged(as_of: int, **gate: Any) -> Artifact:
    """A model trained up to the row `as_of`, with the gate's figures."""
    made = artifact(as_of=as_of * STEP)
    manifest = replace(made.manifest, gate={**GATE, **gate}, files={}, id="")
    return Artifact.build(manifest, made.model, made.weights, made.state)


OLD, MIDDLE, NEW = judged(1), judged(2), judged(3, promoted=False, ratio=None)


class Daemon:
    """The HTTP side of a daemon: `prices-0` is served by OLD since MIDDLE was reverted."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        actions = {"revert": self._revert}
        views = {"streams": lambda: {"prices-0": {"model": OLD.id, "reverted": [MIDDLE.id], "training": False}}}
        health = Health(60)
        self.server = HttpServer("127.0.0.1", 0, Metrics(CollectorRegistry()), health, SecretStr(TOKEN), actions, views)

    async def _revert(self, stream: str | None) -> Mapping[str, Any]:
        self.asked.append(stream)
        if stream == "busy":
            raise StreamerError("stream 'busy': the stream was restored meanwhile, ask again")
        return {
            "stream": {None: "prices-0", "prices-0": "prices-0"}[stream],
            "reverted": OLD.id,
            "model": "persistence",
        }


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with three models of one stream and one of another; no daemon."""
    store = ModelStore(str(tmp_path / "models"), keep=5)
    for model in (OLD, MIDDLE, NEW):
        store.save("prices-0", model)
    store.save("other", MIDDLE)
    monkeypatch.setenv("STREAMER_MODELS__URL", store.url)
    monkeypatch.setenv("STREAMER_HTTP__PORT", str(free_port()))
    monkeypatch.delenv("STREAMER_HTTP__TOKEN", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which must not be asked
    return tmp_path


@pytest.fixture
async def daemon(environment: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    """A daemon at the address that the settings name."""
    made = Daemon()
    monkeypatch.setenv("STREAMER_HTTP__PORT", str(await made.server.start()))
    yield made
    await made.server.stop(1)


class Called:
    """Exit code, standard output and standard error of `streamer models ...`, beside the event loop."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(cli.main, ["models", *arguments])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def models(capsys: pytest.CaptureFixture[str]) -> Called:
    return Called(capsys)


@pytest.mark.usefixtures("daemon")
async def test_the_models_of_each_stream_are_listed_newest_first_with_what_became_of_them(models: Called) -> None:
    code, out, err = await models("list")

    assert (code, err) == (0, "")
    header, *rows = [line.split() for line in out.splitlines()]
    assert header[:3] == ["STREAM", "ID", "TRAINED"]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("other", MIDDLE.id, "promoted"),
        ("prices-0", NEW.id, "rejected"),
        ("prices-0", MIDDLE.id, "reverted"),
        ("prices-0", OLD.id, "champion"),
    ]
    assert rows[1][2:-1] == ["1970-01-01T00:03:00Z", "100", "-", "0.981235"]


@pytest.mark.usefixtures("daemon")
async def test_the_list_is_json_for_scripts_and_may_be_of_one_stream(models: Called) -> None:
    code, out, err = await models("list", "--stream", "prices-0", "--json")

    assert (code, err) == (0, "")
    new, _, old = json.loads(out)
    assert (new["id"], new["status"], new["champion"], new["ratio"]) == (NEW.id, "rejected", False, None)
    assert old == {
        "stream": "prices-0",
        "id": OLD.id,
        "trained_to": "1970-01-01T00:01:00Z",
        "rows": 100,
        "ratio": 0.98123456,
        "persistence_ratio": 0.98123456,
        "status": "champion",
        "champion": True,
    }


@pytest.mark.usefixtures("environment")
async def test_without_a_daemon_the_list_is_there_and_says_that_champions_are_not_marked(models: Called) -> None:
    code, out, err = await models("list", "--json")

    assert code == 0
    assert [each["champion"] for each in json.loads(out)] == [None] * 4
    assert err.startswith("streamer: champions are not marked: no daemon answers at http://127.0.0.1:")
    assert err.count("\n") == 1


async def test_a_store_without_models_is_said(
    models: Called, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_MODELS__URL", str(environment / "empty"))

    code, out, err = await models("list")

    assert (code, out) == (0, "")
    assert err.endswith(f"streamer: no models in {environment / 'empty'}\n")


@pytest.mark.usefixtures("environment")
async def test_a_model_shows_all_that_its_manifest_says(models: Called) -> None:
    code, out, _ = await models("show", OLD.id)

    assert code == 0
    values = dict(line.split(None, 1) for line in out.split("\n\n")[0].splitlines())
    assert values["stream"] == "prices-0"
    assert values["id"] == OLD.id
    assert values["span.last"] == "1970-01-01T00:01:00Z"
    assert values["symbols"] == "A, B"
    assert values["gate.reason"] == GATE["reason"]
    assert "network.mode" in values
    header, row = out.split("\n\n")[1].splitlines()
    assert header.split() == ["SYMBOL", "INCUMBENT", "RMSE", "N", "PERSISTENCE", "RMSE", "RMSE"]
    assert row.split() == ["A", "-", "15", "1", "0.98"]


@pytest.mark.usefixtures("environment")
async def test_a_manifest_as_json_is_that_of_the_store(models: Called) -> None:
    code, out, _ = await models("show", MIDDLE.id, "--stream", "other", "--json")

    shown = json.loads(out)
    assert (code, shown.pop("stream")) == (0, "other")
    assert shown == json.loads(MIDDLE.manifest.to_bytes())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("arguments", [("show", "no-such"), ("show", OLD.id, "--stream", "other")])
async def test_a_model_that_is_not_there_is_wrong_usage(models: Called, arguments: tuple[str, ...]) -> None:
    code, out, err = await models(*arguments)

    assert (code, out) == (2, "")
    assert f"there is no model '{arguments[1]}' in " in err


@pytest.mark.parametrize(("options", "asked"), [((), None), (("--stream", "prices-0"), "prices-0")])
async def test_a_revert_asks_the_daemon_with_the_token(
    models: Called, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], asked: str | None
) -> None:
    monkeypatch.setenv("STREAMER_HTTP__TOKEN", TOKEN)

    assert await models("revert", *options) == (
        0,
        f"stream prices-0: {OLD.id} is reverted, persistence serves\n",
        "",
    )
    code, out, _ = await models("revert", *options, "--json")

    assert (code, json.loads(out)["model"]) == (0, "persistence")
    assert daemon.asked == [asked, asked]


async def test_the_token_may_stand_in_a_file(
    models: Called, daemon: Daemon, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "token").write_text(TOKEN)
    monkeypatch.setenv("STREAMER_HTTP__TOKEN_FILE", str(environment / "token"))

    assert (await models("revert"))[0] == 0
    assert daemon.asked == [None]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("token", "options", "code", "said"),
    [
        (None, (), 3, "streamer: no token: set STREAMER_HTTP__TOKEN or http.token_file as for the daemon"),
        ("wrong", (), 1, "refuses: wrong or missing token"),
        (TOKEN, ("--stream", "nope"), 1, "refuses: there is no stream 'nope'"),
        (TOKEN, ("--stream", "busy"), 1, "refuses: stream 'busy': the stream was restored meanwhile, ask again"),
        (TOKEN, ("--url", "ftp://127.0.0.1"), 2, "--url: found 'ftp://127.0.0.1', expected an address such as"),
        (TOKEN, ("--url", "http://127.0.0.1:1"), 1, "no daemon answers at http://127.0.0.1:1 "),
        (TOKEN, ("--url", "http://no-such-host.invalid"), 1, "no daemon answers at http://no-such-host.invalid "),
    ],
)
async def test_what_stands_in_the_way_of_a_revert_is_one_line(
    models: Called, monkeypatch: pytest.MonkeyPatch, token: str | None, options: tuple[str, ...], code: int, said: str
) -> None:
    if token is not None:
        monkeypatch.setenv("STREAMER_HTTP__TOKEN", token)

    found, out, err = await models("revert", *options)

    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert token is None or token not in err.replace("wrong or missing", "")


@pytest.mark.usefixtures("environment")
async def test_whatever_else_answers_there_is_no_daemon(models: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_HTTP__TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        async def hang_up() -> None:
            connection, _ = await asyncio.to_thread(listener.accept)
            connection.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
            connection.close()

        answering = asyncio.create_task(hang_up())
        code, _, err = await models("revert", "--url", f"http://127.0.0.1:{port}")
        await answering

    assert code == 1
    assert err.startswith(f"streamer: no daemon answers at http://127.0.0.1:{port} ")


@pytest.mark.usefixtures("environment")
async def test_a_port_that_the_daemon_chose_has_to_be_named(models: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_HTTP__PORT", "0")
    monkeypatch.setenv("STREAMER_HTTP__TOKEN", TOKEN)

    code, _, err = await models("revert")

    assert code == 3
    assert "name the daemon by --url" in err


@pytest.mark.usefixtures("environment")
async def test_with_a_key_an_unsigned_model_is_named_and_neither_listed_nor_shown(
    models: Called, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, environment: Path
) -> None:
    key = "0123456789abcdef" * 2
    monkeypatch.setenv("STREAMER_MODELS__HMAC_KEY", key)
    ModelStore(str(environment / "models"), 5, key.encode()).save("prices-0", OLD)

    code, out, _ = await models("list", "--json")

    assert code == 0
    assert [each["id"] for each in json.loads(out)] == [OLD.id]
    assert f"model {MIDDLE.id} of stream prices-0 in {environment}/models left out: manifest.sig" in caplog.text
    assert (await models("show", OLD.id))[0] == 0
    code, _, err = await models("show", MIDDLE.id)
    assert (code, f"there is no model '{MIDDLE.id}'" in err) == (2, True)
    assert key not in out + err + caplog.text
