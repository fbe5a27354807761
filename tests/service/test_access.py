"""What of TLS and SASL is found wrong before any broker is asked, and what is made of a broker that lies."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import BrokerError, ConfigError
from streamer.service import access
from streamer.service.access import Access
from streamer.settings import Kafka
from tests.e2e.secured import Certificates, Pair

LOGIN = {"protocol": "sasl_plaintext", "mechanism": "SCRAM-SHA-256", "username": "desk"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def locked(certificates: Certificates) -> Pair:
    return certificates.issue("locked", password="opens")


def made(servers: str = "127.0.0.1:1", **security: Any) -> Access:
    return Access(Kafka.model_validate({"bootstrap_servers": servers, "security": security}))


def refused(**security: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        made(**security)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_login_without_a_password_names_the_ways_to_give_it() -> None:
    assert refused(**LOGIN) == (
        "kafka.security.password: missing, protocol sasl_plaintext needs it: set STREAMER_KAFKA__SECURITY__PASSWORD "
        "or kafka.security.password_file"
    )


def test_a_file_of_authorities_that_is_not_there_is_named() -> None:
    line = refused(protocol="ssl", ca_file="/nowhere/ca.pem")
    assert line == "kafka.security.ca_file: /nowhere/ca.pem cannot be read: No such file or directory"


def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    line = refused(protocol="ssl", ca_file=str(tmp_path / "ca.pem"))
    assert line.startswith(f"kafka.security.ca_file: {tmp_path}/ca.pem is no PEM file of certificates")


def test_a_certificate_that_is_not_there_is_named(certificates: Certificates) -> None:
    line = refused(protocol="ssl", ca_file=str(certificates.ca), cert_file="/nowhere/cert.pem")
    assert line.startswith(
        "kafka.security.cert_file: /nowhere/cert.pem with /nowhere/cert.pem: cannot be read: No such"
    )


def test_the_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    first, second = certificates.issue("first"), certificates.issue("second")
    line = refused(protocol="ssl", cert_file=str(first.certificate), key_file=str(second.key))
    assert line.startswith(f"kafka.security.cert_file: {first.certificate} and {second.key} are no PEM files of")


@pytest.mark.parametrize("password", [{}, {"key_password": "wrong"}, {"key_password": "x" * 2000}])
def test_a_key_that_its_password_does_not_open_is_refused_and_nobody_is_asked_for_another(
    locked: Pair, password: dict[str, str]
) -> None:
    """OpenSSL would ask at the terminal, and the daemon would wait there."""
    line = refused(protocol="ssl", cert_file=str(locked.certificate), key_file=str(locked.key), **password)
    assert line.startswith(f"kafka.security.cert_file: {locked.certificate} ")
    assert "wrong" not in line


def test_a_key_that_its_password_opens_is_taken(locked: Pair) -> None:
    made(protocol="ssl", cert_file=str(locked.certificate), key_file=str(locked.key), key_password="opens")


def test_every_client_is_given_all_that_the_settings_say() -> None:
    assert made(**LOGIN, password="secret").options() == {
        "bootstrap_servers": "127.0.0.1:1",
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "desk",
        "sasl_plain_password": "secret",
    }


async def test_a_broker_that_is_away_refuses_nobody() -> None:
    way = made(**LOGIN, password="secret")
    with pytest.raises(BrokerError, match="Connect call failed"):
        await way.check()
    assert await way.refusal() is None


async def test_a_broker_that_hangs_up_is_away_with_a_hint() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError, match=r"it closes the connection: kafka\.security\.protocol is ssl, set it to"):
            await made(f"127.0.0.1:{port}", protocol="ssl").check()


async def test_a_broker_that_does_not_know_the_password_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCRAM proves both sides to each other; aiokafka raises what a real broker gives no cause for."""

    async def lie(*_: object, **__: object) -> None:
        raise ValueError("Server sent wrong signature!")

    monkeypatch.setattr(access, "create_conn", lie)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1 cannot prove that it knows the password of 'desk'"):
        await made(**LOGIN, password="secret").check()
