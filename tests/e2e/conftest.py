"""A real Apache Kafka for the end-to-end tests, and the rule that none of them is skipped in CI."""

import os
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support import KafkaBroker, MissingProgramsError

REQUIRED = bool(os.environ.get("STREAMER_REQUIRE_E2E"))

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder `e2e`."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where the end-to-end tests are required."""
    return _forbid_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a file that skips itself as a whole."""
    return _forbid_skip((yield))


def _forbid_skip(report: Report) -> Report:
    # An expected failure is reported as skipped too, and stays what it is.
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though STREAMER_REQUIRE_E2E is set: {report.longrepr}"
    return report


class Topics:
    """Makes topics with names that no other test has, and deletes them."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin
        self._made: list[str] = []

    async def create(self, name: str = "topic", *, partitions: int = 1, **config: str) -> str:
        """Create a topic with the settings `config` (`cleanup_policy="compact"`) and return its full name."""
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        answer = await self._admin.create_topics([NewTopic(unique, partitions, 1, topic_configs=settings)])
        assert [code for _, code, *_ in answer.topic_errors] == [0], answer
        self._made.append(unique)
        return unique

    async def delete_all(self) -> None:
        """Delete the topics that are still there."""
        left = set(self._made) & set(await self._admin.list_topics())
        if left:
            await self._admin.delete_topics(sorted(left))


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka: STREAMER_TEST_BOOTSTRAP, or else a broker started for this session."""
    named = os.environ.get("STREAMER_TEST_BOOTSTRAP")
    if named:
        yield named
        return
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        address = broker.start()
    except MissingProgramsError as error:
        pytest.skip(f"no Kafka: {error}; or name a broker by STREAMER_TEST_BOOTSTRAP")
    yield address
    broker.stop()


@pytest.fixture
async def topics(bootstrap: str) -> AsyncIterator[Topics]:
    """Topics of this test's own on `bootstrap`: `await topics.create("prices", partitions=4)`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        made = Topics(admin)
        yield made
        await made.delete_all()
    finally:
        await admin.close()
