"""The client of the schema registry: what it is told, and what it makes of a registry that is away, slow or hostile."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from streamer.codecs.registry import LARGEST_ANSWER, NotRegisteredError, Registry, RegistryError
from streamer.config import load
from streamer.decoding import registry
from streamer.errors import ConfigError
from tests.registry import RegistryServer, registry_server
from tests.support import free_port


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


def test_a_schema_is_had_by_its_id_and_by_its_version(server: RegistryServer) -> None:
    number = server.add({"type": "string"}, "a/b c")
    client = Registry(server.url + "/")
    assert client.schema(number) == {"schema": '{"type": "string"}'}
    assert server.requests == [f"/schemas/ids/{number}"]
    with pytest.raises(NotRegisteredError, match=r"/subjects/a%2Fb%20c/versions/1 \(404 Schema not found\)"):
        client.version("a/b c", 1)  # this server does not unquote, real ones do


def test_what_is_not_registered_is_told_from_a_registry_that_is_away(server: RegistryServer) -> None:
    with pytest.raises(NotRegisteredError, match=r"has no /schemas/ids/7 \(404 Schema not found\)"):
        Registry(server.url).schema(7)
    port = free_port()
    with pytest.raises(RegistryError, match=f"no schema registry answers at http://127.0.0.1:{port} .*registry.url"):
        Registry(f"http://127.0.0.1:{port}").schema(7)


def test_it_logs_in(server: RegistryServer) -> None:
    Registry(server.url, "desk", SecretStr("pass:word")).check()
    assert server.headers["Authorization"] == f"Basic {base64.b64encode(b'desk:pass:word').decode()}"


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_names_the_keys_and_not_the_password(server: RegistryServer, code: int) -> None:
    server.fault = lambda request: request.answer(code, {"message": "no\nway"})
    with pytest.raises(ConfigError) as caught:
        Registry(server.url, "desk", SecretStr("s3cret")).check()
    assert f"refuses us ({code} no way): check registry.username, and STREAMER_REGISTRY__PASSWORD" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_refused_schema_is_the_operators_to_mend(server: RegistryServer) -> None:
    server.fault = lambda request: request.answer(409, {"message": "incompatible"})
    with pytest.raises(ConfigError, match="refuses the schema of the forecasts: 409 incompatible"):
        Registry(server.url).register("forecasts-value", "{}")


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_registry_that_has_trouble_is_one_to_ask_again(server: RegistryServer, code: int) -> None:
    server.fault = lambda request: request.answer(code, "?")
    with pytest.raises(RegistryError, match=f"answers /schemas/types with {code}"):
        Registry(server.url).check()
    with pytest.raises(RegistryError, match=f"answers /subjects/forecasts-value/versions with {code}"):
        Registry(server.url).register("forecasts-value", "{}")


@pytest.mark.parametrize("code", [400, 404, 406, 410, 422])
def test_a_schema_that_it_will_not_give_is_one_that_it_does_not_have(server: RegistryServer, code: int) -> None:
    """To wait for it would be for ever, and one message would stop its partition."""
    server.fault = lambda request: request.answer(code, {"message": "no"})
    with pytest.raises(NotRegisteredError, match=rf"has no /schemas/ids/7 \({code} no\)"):
        Registry(server.url).schema(7)
    with pytest.raises(NotRegisteredError, match=rf"has no /subjects/s/versions/1 \({code} no\)"):
        Registry(server.url).version("s", 1)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://127.0.0.1:1/elsewhere"])
def test_a_redirect_is_not_followed(server: RegistryServer, where: str) -> None:
    server.fault = lambda request: request.answer(302, "", Location=where)
    with pytest.raises(RegistryError, match="with 302"):
        Registry(server.url).check()
    assert server.requests == ["/schemas/types"]


def test_an_answer_without_end_is_not_read(server: RegistryServer) -> None:
    def endless(request: Any) -> bool:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" " * LARGEST_ANSWER)
        except OSError:
            return True

    server.fault = endless
    client = Registry(server.url)
    with pytest.raises(NotRegisteredError, match=rf"has no /schemas/ids/7 \(more than {LARGEST_ANSWER} bytes\)"):
        client.schema(7)
    for ask in (client.check, lambda: client.register("forecasts-value", "{}")):
        with pytest.raises(ConfigError, match=r"registry\.url: what answers at .* is no schema registry"):
            ask()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_one_that_gives_a_byte_now_and_then_is_given_up_in_time(server: RegistryServer, head: bytes) -> None:
    """A socket's own time-out would begin anew with each byte."""
    has_ended = threading.Event()

    def slow(request: Any) -> bool:
        request.wfile.write(head)
        while head and not has_ended.wait(0.02):
            request.wfile.write(b" ")
        return bool(has_ended.wait(10))

    server.fault = slow
    try:
        with pytest.raises(RegistryError, match="no schema registry answers at"):
            Registry(server.url, timeout=0.1).check()
    finally:
        has_ended.set()


@pytest.mark.parametrize("content", [b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(server: RegistryServer, content: bytes) -> None:
    def other(request: Any) -> bool:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)
        return True

    server.fault = other
    with pytest.raises(RegistryError, match="speaks no JSON"):
        Registry(server.url).check()


def test_no_proxy_is_asked(server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is for the registry alone."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    Registry(server.url).check()


def test_a_server_that_is_no_registry_is_named(server: RegistryServer) -> None:
    with pytest.raises(ConfigError, match=r"registry\.url: what answers at .* is no schema registry"):
        Registry(server.url + "/api").check()


def test_a_missing_password_is_told_before_the_registry_is_met() -> None:
    keys = {"registry.url": "http://127.0.0.1:1", "registry.username": "desk"}
    with pytest.raises(ConfigError, match=r"registry\.password: missing.*STREAMER_REGISTRY__PASSWORD"):
        registry(load(None, {}, {"kafka.bootstrap_servers": "a:1"} | keys))


def test_a_ca_file_of_no_use_is_named(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, problem in (("ca.pem", "is no PEM file"), ("none.pem", "cannot be read")):
        with pytest.raises(ConfigError, match=rf"registry\.ca_file: .*{name} {problem}"):
            Registry("https://127.0.0.1:1", ca_file=tmp_path / name)
