"""The daemon and the commands on a broker that asks who is there, and that has to show who it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streamer.service.access import Access
from streamer.settings import Kafka
from tests.e2e.feeding import Feed, Published, sawtooth
from tests.e2e.harness import Service
from tests.e2e.secured import (
    PASSWORD,
    SECRET,
    USER,
    Certificates,
    Relay,
    SecuredBroker,
    login,
    relay,
    secured_broker,
)
from tests.e2e.test_startup import refusal
from tests.support import CHECKOUT, MissingProgramsError, eventually, read_all

PASSWORD_OF_KEY = "key, opens"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    try:
        with secured_broker(tmp_path_factory.mktemp("secured")) as started:
            yield started
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")


def service(folder: Path, servers: str, security: Mapping[str, Any], prices: str = "prices", **kafka: Any) -> Service:
    """A daemon that logs in, if it does, with the right password."""
    made = Service(servers, folder, prices, kafka={"security": security, "startup_timeout": "10m", **kafka})
    made.environment |= SECRET if str(security.get("protocol", "")).startswith("sasl") else {}
    return made


def streamer(of: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, with the settings and the environment of a daemon."""
    config = of.folder / "command.json"
    config.write_text(json.dumps(of.settings))
    return subprocess.run(
        [sys.executable, "-m", "streamer", *arguments, "-c", config],
        cwd=CHECKOUT,
        env=os.environ | of.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(file: Path, count: int) -> Path:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    lines = [f"{(start + timedelta(minutes=i)).isoformat()},{i % 9 + 1},7\n" for i in range(count)]
    file.write_text("time,A,B\n" + "".join(lines))
    return file


async def published(broker: SecuredBroker, of: Service) -> Published:
    """What a daemon has published, read by the open door."""
    return Published(await read_all(broker.plain, of.topic("forecasts")), [])


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_ticks_come_in_and_forecasts_go_out_by_tls_and_password(
    broker: SecuredBroker, tmp_path: Path, mechanism: str
) -> None:
    """`feed` makes the topic and fills it, the daemon serves it and starts again from its state, `tail` reads."""
    daemon = service(tmp_path, broker.secure, login(broker, mechanism), f"prices-{mechanism}")
    fed = streamer(daemon, "feed", str(rows(tmp_path / "prices.csv", 90)), "--rate", "0")
    assert (fed.returncode, "sent 90 of 90" in fed.stderr) == (0, True), fed.stderr
    async with daemon:
        await eventually(lambda: _count(broker, daemon, 90), timeout=60, interval=0.5)
        assert await daemon.terminate() == 0
        daemon.start()  # from its snapshot and the log
        await daemon.ready()
        assert await daemon.terminate() == 0
    tailed = streamer(daemon, "tail", "--from", "earliest", "--limit", "90", "--json")
    assert (tailed.returncode, len(tailed.stdout.splitlines())) == (0, 90), tailed.stderr
    for said in (daemon.stderr(), tailed.stderr, fed.stderr):
        assert PASSWORD not in said
        assert "Traceback" not in said


async def _count(broker: SecuredBroker, daemon: Service, wanted: int) -> bool:
    """Whether it has forecast so many ticks."""
    assert not daemon.has_ended(), daemon.stderr()[-3000:]
    return len((await published(broker, daemon)).by_offset()) == wanted


async def test_at_least_once_logs_in_too(broker: SecuredBroker, tmp_path: Path) -> None:
    daemon = service(tmp_path, broker.secure, login(broker), "prices-once", delivery="at_least_once")
    assert streamer(daemon, "feed", str(rows(tmp_path / "prices.csv", 30)), "--rate", "0").returncode == 0
    async with daemon:
        await eventually(lambda: _count(broker, daemon, 30), timeout=60, interval=0.5)


async def test_a_certificate_of_our_own_opens_a_listener_that_asks_for_one(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    ours = broker.certificates.issue("ours", password=PASSWORD_OF_KEY)
    security = {"protocol": "ssl", "ca_file": str(broker.certificates.ca), "cert_file": str(ours.certificate)}
    daemon = service(tmp_path, broker.mutual, {**security, "key_file": str(ours.key)}, "prices-mutual")
    daemon.environment["STREAMER_KAFKA__SECURITY__KEY_PASSWORD"] = PASSWORD_OF_KEY
    assert streamer(daemon, "feed", str(rows(tmp_path / "prices.csv", 30)), "--rate", "0").returncode == 0
    async with daemon:
        await eventually(lambda: _count(broker, daemon, 30), timeout=60, interval=0.5)
        assert PASSWORD_OF_KEY not in daemon.stderr()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
async def test_a_password_is_in_no_log_not_even_at_its_most_talkative(
    broker: SecuredBroker, tmp_path: Path, mechanism: str
) -> None:
    """Each request is logged with its bytes then, and those of a login are the user and the password."""
    daemon = service(tmp_path, broker.secure, login(broker, mechanism), f"prices-{uuid4().hex}")
    daemon.settings["log"] = {"level": "debug", "format": "text"}
    broker.make_topic(daemon.topic("prices"))
    async with daemon:
        await daemon.ready()
        assert await daemon.terminate() == 0
    said = daemon.stderr()
    assert "Request to 127.0.0.1" in said, "it is as talkative as it can be"
    assert PASSWORD not in said
    assert "SaslAuthenticate" not in said


async def test_of_several_brokers_one_that_lets_us_in_is_enough(broker: SecuredBroker) -> None:
    security = {**login(broker), "password": PASSWORD}
    servers = f"{broker.expired},127.0.0.1:1,{broker.secure}"
    await Access(Kafka.model_validate({"bootstrap_servers": servers, "security": security})).check()


async def test_a_certificate_of_ours_that_was_replaced_on_disk_is_shown_from_the_next_connection_on(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    ours, foreign = broker.certificates.issue("renewed"), Certificates(tmp_path, "other").issue("foreign")
    security = {
        "protocol": "ssl",
        "ca_file": str(broker.certificates.ca),
        "cert_file": str(foreign.certificate),
        "key_file": str(foreign.key),
    }
    access = Access(Kafka.model_validate({"bootstrap_servers": broker.mutual, "security": security}))
    assert "refuses our certificate" in str(await access.refusal())
    ours.certificate.rename(foreign.certificate)
    ours.key.rename(foreign.key)
    assert await access.refusal() is None


# What is refused, at once and not after kafka.startup_timeout (10 minutes here): `refusal` waits for one


async def test_a_wrong_password_ends_the_start_at_once(broker: SecuredBroker, tmp_path: Path) -> None:
    daemon = service(tmp_path, broker.secure, login(broker))
    daemon.environment["STREAMER_KAFKA__SECURITY__PASSWORD"] = "hunter2"
    line = await refusal(daemon, 3)
    assert f"the broker {broker.secure} refuses user {USER!r} or the password (SCRAM-SHA-512)" in line
    assert "STREAMER_KAFKA__SECURITY__PASSWORD" in line
    assert "hunter2" not in daemon.stderr()


@pytest.mark.parametrize("command", [("feed", "FILE", "--rate", "0"), ("tail",)], ids=["feed", "tail"])
def test_a_wrong_password_ends_a_command_at_once(
    broker: SecuredBroker, tmp_path: Path, command: tuple[str, ...]
) -> None:
    daemon = service(tmp_path, broker.secure, login(broker))
    daemon.environment["STREAMER_KAFKA__SECURITY__PASSWORD"] = "hunter2"
    file = str(rows(tmp_path / "prices.csv", 3))
    done = streamer(daemon, *(file if argument == "FILE" else argument for argument in command))
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert f"refuses user {USER!r} or the password" in done.stderr


async def test_a_missing_password_ends_the_start_with_the_ways_to_give_it(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    daemon = service(tmp_path, broker.secure, login(broker))
    del daemon.environment["STREAMER_KAFKA__SECURITY__PASSWORD"]
    line = await refusal(daemon, 3)
    assert "kafka.security.password: missing" in line
    assert "kafka.security.password_file" in line


async def test_a_broker_of_an_unknown_authority_ends_the_start_at_once(broker: SecuredBroker, tmp_path: Path) -> None:
    other = Certificates(tmp_path, "other").ca
    line = await refusal(service(tmp_path, broker.secure, login(broker, ca_file=str(other))), 3)
    assert f"the certificate of the broker {broker.secure} is signed by no authority" in line
    assert f"kafka.security.ca_file ({other})" in line


async def test_without_an_authority_of_our_own_those_of_the_system_count(broker: SecuredBroker, tmp_path: Path) -> None:
    line = await refusal(service(tmp_path, broker.secure, login(broker, ca_file=None)), 3)
    assert "is signed by no authority of kafka.security.ca_file (those of this system)" in line


async def test_an_expired_certificate_ends_the_start_at_once(broker: SecuredBroker, tmp_path: Path) -> None:
    line = await refusal(service(tmp_path, broker.expired, login(broker)), 3)
    assert f"the certificate of the broker {broker.expired} has expired: renew it there" in line


async def test_a_certificate_for_another_name_ends_the_start_at_once(broker: SecuredBroker, tmp_path: Path) -> None:
    elsewhere = broker.secure.replace("127.0.0.1", "localhost")
    line = await refusal(service(tmp_path, elsewhere, login(broker)), 3)
    assert f"the certificate of the broker {elsewhere} is for another name" in line
    assert "kafka.bootstrap_servers" in line


async def test_a_mechanism_that_the_broker_does_not_offer_is_named(broker: SecuredBroker, tmp_path: Path) -> None:
    security = login(broker, "SCRAM-SHA-256", protocol="sasl_plaintext", ca_file=None)
    line = await refusal(service(tmp_path, broker.clear, security), 3)
    assert "does not offer kafka.security.mechanism SCRAM-SHA-256" in line


async def test_a_listener_without_passwords_is_told_from_one_that_refuses_ours(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    security = login(broker, "PLAIN", protocol="sasl_plaintext", ca_file=None)
    line = await refusal(service(tmp_path, broker.plain, security), 3)
    assert "asks for no user and password: set kafka.security.protocol to plaintext" in line


async def test_a_listener_that_asks_for_a_certificate_of_ours_says_so(broker: SecuredBroker, tmp_path: Path) -> None:
    security = {"protocol": "ssl", "ca_file": str(broker.certificates.ca)}
    line = await refusal(service(tmp_path, broker.mutual, security), 3)
    assert "asks for a certificate of ours" in line
    assert "kafka.security.cert_file" in line


async def test_a_certificate_of_ours_that_the_broker_does_not_trust_is_named(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    foreign = Certificates(tmp_path, "other").issue("foreign")
    security = {"protocol": "ssl", "ca_file": str(broker.certificates.ca), "cert_file": str(foreign.certificate)}
    line = await refusal(service(tmp_path, broker.mutual, {**security, "key_file": str(foreign.key)}), 3)
    assert f"refuses our certificate, kafka.security.cert_file {foreign.certificate}" in line


@pytest.mark.parametrize("listener", ["secure", "clear"])
async def test_a_listener_of_another_protocol_is_waited_for_with_a_hint(
    broker: SecuredBroker, tmp_path: Path, listener: str
) -> None:
    """It closes the connection without a word, as a broker that is going down does."""
    line = await refusal(service(tmp_path, getattr(broker, listener), {}, startup_timeout="1s"), 1)
    assert "kafka.security.protocol is plaintext, set it to that of the listener" in line


# While running

BACKLOG = 800


@dataclass(frozen=True)
class Trouble:
    """What befalls a broker while the daemon reads a backlog from it, how it ends, and what the log says meanwhile."""

    begin: Callable[[SecuredBroker, Relay], None]
    end: Callable[[SecuredBroker, Relay], None]
    said: str


def _expire(broker: SecuredBroker, way: Relay) -> None:
    way.lead_to(broker.expired_target)


def _renew(broker: SecuredBroker, way: Relay) -> None:
    way.lead_to(broker.relayed_target)


def _change_password(broker: SecuredBroker, way: Relay) -> None:
    broker.set_password("changed")
    way.lead_to(broker.relayed_target)


def _change_it_back(broker: SecuredBroker, way: Relay) -> None:
    broker.set_password(PASSWORD)


TROUBLES = {
    "expired": Trouble(_expire, _renew, "has expired: renew it there"),
    "password": Trouble(_change_password, _change_it_back, f"refuses user {USER!r} or the password"),
}


@pytest.mark.parametrize(
    ("trouble", "delivery"),
    [(TROUBLES["expired"], "exactly_once"), (TROUBLES["password"], "at_least_once")],
    ids=["expired", "password"],
)
async def test_a_refusal_while_it_runs_is_said_and_waited_out(
    broker: SecuredBroker, tmp_path: Path, trouble: Trouble, delivery: str
) -> None:
    """It neither ends nor loses a forecast, nor doubles one; at least once: those that are doubled are equal."""
    async with relay(broker.relay, broker.relayed_target) as way:
        servers = f"127.0.0.1:{broker.relay}"
        daemon = service(tmp_path, servers, login(broker), f"prices-{uuid4().hex}", delivery=delivery)
        daemon.settings |= {"retrain": {"every": 0}, "log": {"format": "text"}}
        daemon.settings["kafka"]["max_poll_records"] = 5  # so that it is at work when the trouble comes
        file = rows(tmp_path / "prices.csv", BACKLOG)
        by_another_way = service(tmp_path, broker.plain, {}, daemon.topic("prices"))
        assert streamer(by_another_way, "feed", str(file), "--rate", "0").returncode == 0
        async with daemon:
            await eventually(lambda: _begun(daemon), timeout=60)
            trouble.begin(broker, way)
            try:
                await eventually(lambda: _anew(daemon, trouble.said), timeout=60, interval=0.1)
                assert len((await published(broker, daemon)).by_offset()) < BACKLOG
            finally:
                trouble.end(broker, way)
            await eventually(lambda: _count(broker, daemon, BACKLOG), timeout=60, interval=0.5)
            assert await daemon.terminate() == 0
        found = (await published(broker, daemon)).by_offset().values()
        assert all(len({record.value for record in each}) == 1 for each in found)
        if delivery == "exactly_once":
            assert all(len(each) == 1 for each in found)
    assert "Traceback" not in daemon.stderr()


async def _begun(daemon: Service) -> bool:
    return (await daemon.metrics()).total("streamer_forecasts_total") > 0


def _anew(daemon: Service, said: str) -> bool:
    assert not daemon.has_ended(), daemon.stderr()[-3000:]
    return any("partition begins anew" in line and said in line for line in daemon.stderr().splitlines())


# Models


async def test_models_are_signed_and_those_of_another_key_give_way_to_a_new_one(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    daemon = service(tmp_path, broker.plain, {}, f"prices-{uuid4().hex}")
    stream, models = f"{daemon.topic('prices')}-0", Path(daemon.settings["models"]["url"])
    feed, messages = Feed(broker.plain, daemon.topic("prices")), sawtooth(440)
    daemon.environment["STREAMER_MODELS__HMAC_KEY"] = "k" * 32
    broker.make_topic(daemon.topic("prices"))
    async with daemon:
        await feed.send(messages[:400])
        champion = (await daemon.logged("model serves"))["model"]
        await feed.send(messages[400:410])
        await daemon.caught_up(410)
        assert await daemon.terminate() == 0
        assert "k" * 32 not in daemon.stderr()
        assert (models / stream / champion / "manifest.sig").exists()

        daemon.environment["STREAMER_MODELS__HMAC_KEY"] = "f" * 32
        daemon.start()
        await daemon.ready()
        (notice,) = [e for e in daemon.events() if f"model {champion} cannot be used" in e["event"]]
        assert "manifest.sig is not the manifest's under models.hmac_key" in notice["event"]
        await feed.send(messages[410:420])
        assert (await daemon.logged("training"))["reason"] == "champion_lost"
        successor = await eventually(lambda: _trained(daemon), timeout=60)
        await feed.send(messages[420:430])
        await daemon.caught_up(430)
    by_offset = [value["model"] for value in (await published(broker, daemon)).values()]
    assert by_offset[400:] == [champion] * 10 + ["persistence"] * 10 + [successor] * 10
    listed = streamer(daemon, "models", "list", "--json")
    assert [each["id"] for each in json.loads(listed.stdout)] == [successor]


def _trained(daemon: Service) -> str | None:
    """The model that came after persistence, which serves at once."""
    assert not daemon.has_ended(), daemon.stderr()[-3000:]
    models = [event["model"] for event in daemon.events("model serves")]
    return next((model for model in models if model != "persistence"), None)
