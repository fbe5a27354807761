import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support import CHECKOUT, KafkaBroker, MissingProgramsError, eventually, read_all


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of this test's own, in a folder whose name has a space."""
    broker = KafkaBroker(tmp_path / "my kafka")
    try:
        broker.start()
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}")
    yield broker
    broker.stop()


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    """Send one record, making the topic if need be."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def values(bootstrap: str, topic: str) -> list[bytes]:
    return [record.value for record in await read_all(bootstrap, topic)]


async def test_a_stopped_broker_comes_back_on_its_port_with_its_data(broker: KafkaBroker) -> None:
    address = broker.start()  # it runs already: this only tells the address
    await produce(address, "kept", b"first")

    broker.stop(keep_data=True)
    assert not broker.is_running()
    port = int(address.rpartition(":")[2])
    assert broker.start(port) == address

    assert broker.is_running()
    await produce(address, "kept", b"second")
    assert await values(address, "kept") == [b"first", b"second"]


async def test_a_killed_broker_does_not_stop_the_next_start(broker: KafkaBroker) -> None:
    address = broker.start()
    await produce(address, "kept", b"before the kill")

    os.kill(int((broker.directory / "pid").read_text()), signal.SIGKILL)
    await eventually(lambda: not broker.is_running())

    assert broker.start() == address
    assert await values(address, "kept") == [b"before the kill"]


def test_stopping_removes_the_folder(broker: KafkaBroker) -> None:
    broker.stop()
    assert not broker.is_running()
    assert not broker.directory.exists()


def test_two_brokers_run_side_by_side(broker: KafkaBroker, tmp_path: Path) -> None:
    other = KafkaBroker(tmp_path / "other")
    try:
        assert other.start() != broker.start()
        assert broker.is_running()
    finally:
        other.stop()
    assert broker.is_running()


async def test_a_broker_ends_with_the_process_it_was_started_for(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path)
    script = "import sys; from pathlib import Path; from tests.support import KafkaBroker as K; "
    owner = subprocess.run(
        [sys.executable, "-c", script + "print(K(Path(sys.argv[1])).start())", tmp_path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "MissingProgramsError" in owner.stderr:
        pytest.skip("no Kafka: Java or Maven is missing")
    assert re.fullmatch(r"127\.0\.0\.1:\d+\n", owner.stdout), owner.stderr
    await eventually(lambda: not broker.is_running(), timeout=30, interval=0.2)


def test_a_port_that_is_taken_is_named(broker: KafkaBroker, tmp_path: Path) -> None:
    port = int(broker.start().rpartition(":")[2])
    with pytest.raises(AssertionError, match=f"port {port} is taken"):
        KafkaBroker(tmp_path / "other").start(port)
