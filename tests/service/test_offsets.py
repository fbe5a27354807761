"""What a coordinator answers about a committed offset: an error is never taken for "nothing committed"."""

from io import BytesIO
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError, UnknownError
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError
from streamer.service import offsets
from streamer.service.offsets import UnstableOffsetError

TP = TopicPartition("prices", 2)
LOADING, UNSTABLE, UNKNOWN = 14, 88, -1
VERSIONS = [3, 7]


class Coordinator:
    """The admin client of a group's coordinator that speaks up to `version`; bytes go both ways."""

    def __init__(self, version: int, held: list[tuple[int, str, int]], error: int = 0) -> None:
        self._version = version
        self._held = held
        self._error = error
        self.asked: dict[str, Any] = {}

    async def find_coordinator(self, group_id: str) -> int:
        return 1

    async def _send_request(self, request: Any, node_id: int) -> Any:
        prepared = request.prepare({9: (1, self._version)})
        assert self._version == prepared.API_VERSION
        self.asked = type(prepared).decode(BytesIO(prepared.encode())).to_object()
        answer = prepared.RESPONSE_TYPE(0, self._topics(), self._error, *self._tags())
        return prepared.RESPONSE_TYPE.decode(BytesIO(answer.encode()))

    def _tags(self) -> list[dict[int, bytes]]:
        return [{}] if self._version == 7 else []

    def _topics(self) -> list[Any]:
        epoch = [-1] if self._version == 7 else []
        held = [(2, offset, *epoch, metadata, code, *self._tags()) for offset, metadata, code in self._held]
        return [("prices", held, *self._tags())] if held else []


async def committed(coordinator: Any, *, require_stable: bool = True) -> OffsetAndMetadata | None:
    return await offsets.committed(coordinator, "me", TP, require_stable=require_stable)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_offset_and_its_metadata_and_the_lack_of_one(version: int) -> None:
    assert await committed(Coordinator(version, [(7, "note", 0)])) == OffsetAndMetadata(7, "note")
    assert await committed(Coordinator(version, [(-1, "", 0)])) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("held", "error"), [([], LOADING), ([(-1, "", LOADING)], 0)], ids=["as a whole", "of it"])
async def test_a_coordinator_that_is_still_loading_does_not_know(
    version: int, held: list[tuple[int, str, int]], error: int
) -> None:
    with pytest.raises(CoordinatorLoadInProgressError, match="prices-2"):
        await committed(Coordinator(version, held, error))


async def test_an_offset_that_a_transaction_is_about_to_replace_is_told_apart() -> None:
    with pytest.raises(UnstableOffsetError, match="prices-2 is in a transaction"):
        await committed(Coordinator(7, [(-1, "", UNSTABLE)]))


async def test_an_answer_without_the_offset_is_no_answer() -> None:
    with pytest.raises(BrokerError, match="0 offsets for prices-2"):
        await committed(Coordinator(7, []))


async def test_an_error_that_aiokafka_does_not_know_is_one_of_kafka() -> None:
    with pytest.raises(UnknownError) as raised:
        await committed(Coordinator(7, [], UNKNOWN))
    assert isinstance(raised.value, KafkaError)


@pytest.mark.parametrize("require_stable", [True, False])
async def test_stability_is_asked_for_where_it_matters(require_stable: bool) -> None:
    coordinator = Coordinator(7, [(7, "", 0)])
    await committed(coordinator, require_stable=require_stable)
    assert coordinator.asked["require_stable"] is require_stable
