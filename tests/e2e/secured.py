"""A real Kafka that asks who is there: TLS, SASL, and certificates made for it."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support import KafkaBroker, free_port

USER, PASSWORD = "trading,desk=1", "correct horse, battery=staple"
"""With the characters that SCRAM has to quote (RFC 5802, section 5.1), and blanks."""

SECRET = {"STREAMER_KAFKA__SECURITY__PASSWORD": PASSWORD}

_MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Certificates:
    """An authority in a folder, and what it signs."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.ca = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.ca, "-subj", f"/CN={name}")

    def issue(self, name: str, *, days: int = 2, alternative: str = "IP:127.0.0.1", password: str = "") -> "Pair":
        """A key and a certificate for it, which ends in so many days; before now if negative."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n")
        self._openssl("req", *_NEW_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial")
        self._openssl(
            *("x509", "-req", "-in", request, "-out", pair.certificate, "-days", str(days)),
            *("-extfile", extensions, *signer),
        )
        if password:
            locked = self.folder / f"{name}.locked"
            self._openssl("pkcs8", "-topk8", "-in", pair.key, "-out", locked, "-passout", f"pass:{password}")
            locked.rename(pair.key)
        return pair

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its private key."""

    certificate: Path
    key: Path

    def as_keystore(self) -> Path:
        """Both in one file, as Kafka wants them."""
        path = self.certificate.with_suffix(".keystore.pem")
        path.write_text(self.key.read_text() + self.certificate.read_text())
        return path


@dataclass(frozen=True)
class SecuredBroker:
    """Addresses of one broker's listeners, each closed in another way.

    plain: open. secure: SASL_SSL. expired: the same with a certificate that has expired. mutual: SSL, and asks for our
    certificate. clear: SASL_PLAINTEXT, PLAIN alone. relayed: SASL_SSL, which advertises `relay`, a port that nobody
    listens on yet; `relayed_target` is where it listens itself.
    """

    certificates: Certificates
    plain: str
    secure: str
    expired: str
    mutual: str
    clear: str
    relay: int
    relayed_target: int
    expired_target: int

    def make_topic(self, name: str) -> None:
        """Make a topic of one partition."""
        admin = AdminClient({"bootstrap.servers": self.plain})
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)

    def set_password(self, password: str) -> None:
        """Set the user's SCRAM passwords."""
        admin = AdminClient({"bootstrap.servers": self.plain})
        changes = [
            UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), password.encode())
            for mechanism in _MECHANISMS.values()
        ]
        for change in changes:
            for done in admin.alter_user_scram_credentials([change]).values():
                done.result(30)


@contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """Start it, with the user `USER`; it ends with the block. MissingProgramsError."""
    certificates = Certificates(folder)
    names = ("plain", "secure", "expired", "mutual", "clear", "relayed")
    ports = dict(zip((*names, "controller", "relay"), _free_ports(len(names) + 2), strict=True))
    properties = folder / "secured.properties"
    properties.write_text("\n".join(_properties(certificates, ports)))
    broker = KafkaBroker(folder / "kafka", properties)
    broker.start(ports["plain"])
    try:
        address = {name: f"127.0.0.1:{ports[name]}" for name in names}
        del address["relayed"]
        secured = SecuredBroker(
            certificates,
            **address,
            relay=ports["relay"],
            relayed_target=ports["relayed"],
            expired_target=ports["expired"],
        )
        secured.set_password(PASSWORD)
        yield secured
    finally:
        broker.stop()


def _free_ports(count: int) -> list[int]:
    """All different: each is free only as long as nobody asks again."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _properties(certificates: Certificates, ports: dict[str, int]) -> Iterator[str]:
    protocols = {"plaintext": "PLAINTEXT", "secure": "SASL_SSL", "expired": "SASL_SSL", "mutual": "SSL"}
    protocols |= {"clear": "SASL_PLAINTEXT", "relayed": "SASL_SSL"}
    listens = {name: ports["plain" if name == "plaintext" else name] for name in protocols}
    told = listens | {"relayed": ports["relay"]}
    yield "listeners=" + ",".join(
        [*(_listener(name, port) for name, port in listens.items()), _listener("controller", ports["controller"])]
    )
    yield "advertised.listeners=" + ",".join(_listener(name, port) for name, port in told.items())
    yield f"controller.quorum.voters=1@127.0.0.1:{ports['controller']}"
    yield "listener.security.protocol.map=CONTROLLER:PLAINTEXT," + ",".join(
        f"{name.upper()}:{protocol}" for name, protocol in protocols.items()
    )
    yield "inter.broker.listener.name=PLAINTEXT"
    sound = certificates.issue("broker").as_keystore()
    for name, protocol in protocols.items():
        prefix = f"listener.name.{name}"
        if "SSL" in protocol:
            keystore = certificates.issue("old-broker", days=-1).as_keystore() if name == "expired" else sound
            yield f"{prefix}.ssl.keystore.type=PEM\n{prefix}.ssl.keystore.location={keystore}"
        if "SASL" in protocol:
            scram = () if name == "clear" else _MECHANISMS
            yield f"{prefix}.sasl.enabled.mechanisms={','.join(['PLAIN', *scram])}"
            yield f'{prefix}.plain.sasl.jaas.config={_PLAIN} required "user_{USER}"="{PASSWORD}";'
            yield from (f"{prefix}.{each.lower()}.sasl.jaas.config={_SCRAM} required;" for each in scram)
    yield "listener.name.mutual.ssl.client.auth=required"
    yield "listener.name.mutual.ssl.truststore.type=PEM"
    yield f"listener.name.mutual.ssl.truststore.location={certificates.ca}"


def _listener(name: str, port: int) -> str:
    return f"{name.upper()}://127.0.0.1:{port}"


class Relay:
    """Bytes to and from `target`, a port of 127.0.0.1 that can be changed: all connections end then."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0

    def lead_to(self, target: int) -> None:
        """Break all connections, and make the new ones to `target`."""
        self._target = target
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.accepted += 1
        beyond, ahead = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, ahead}
        await asyncio.gather(_pump(reader, ahead), _pump(beyond, writer))
        self._writers -= {writer, ahead}


@asynccontextmanager
async def relay(port: int, target: int) -> AsyncIterator[Relay]:
    """A relay that listens on `port` for the time of the block."""
    made = Relay(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", port)
    try:
        yield made
    finally:
        server.close()
        made.lead_to(target)
        await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def login(broker: SecuredBroker, mechanism: str = "SCRAM-SHA-512", **changes: Any) -> dict[str, Any]:
    """Settings `kafka.security` for the user, less the password."""
    return {
        "protocol": "sasl_ssl",
        "ca_file": str(broker.certificates.ca),
        "mechanism": mechanism,
        "username": USER,
        **changes,
    }
