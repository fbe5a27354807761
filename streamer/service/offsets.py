"""The committed offsets of the group, asked for such that no transaction is overlooked (KIP-447).

aiokafka knows OffsetFetch up to version 3. That has no `require_stable`: with it the broker refuses an offset which a
transaction without an end is about to replace. And its admin client passes over the error of an answer as a whole: a
coordinator that is still loading would look like a group that has committed nothing, and all would be done again.
"""

from typing import ClassVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest_v3
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError

_UNSTABLE = 88  # UNSTABLE_OFFSET_COMMIT
_STABLE = 7  # the first version that has `require_stable`


class UnstableOffsetError(BrokerError):
    """A transaction that has not ended is about to replace the offset."""


async def committed(
    admin: AIOKafkaAdminClient, group_id: str, tp: TopicPartition, *, require_stable: bool
) -> OffsetAndMetadata | None:
    """The next offset that the group has committed, None before its first commit.

    require_stable: UnstableOffsetError where it may yet change (only Kafka 2.5 and later tell). BrokerError or
    KafkaError where the coordinator does not answer, or does not know yet.
    """
    coordinator = await admin.find_coordinator(group_id)
    answer = (await admin._send_request(_OffsetFetch(group_id, tp, require_stable), coordinator)).to_object()
    held = [each for topic in answer["topics"] for each in topic["partitions"]]
    for code in (answer["error_code"], *(each["error_code"] for each in held)):
        if code == _UNSTABLE:
            raise UnstableOffsetError(
                f"the offset of {tp.topic}-{tp.partition} is in a transaction that has not ended; if it does not end by"
                " itself, use kafka-transactions.sh find-hanging and abort"
            )
        if code:
            raise for_code(code)(f"the offset of {tp.topic}-{tp.partition}")
    if len(held) != 1:
        raise BrokerError(f"{len(held)} offsets for {tp.topic}-{tp.partition}")
    offset, metadata = held[0]["offset"], held[0]["metadata"]
    return None if offset < 0 else OffsetAndMetadata(offset, metadata)


class _OffsetFetchResponse7(Response):
    API_KEY = 9
    API_VERSION = _STABLE
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _OffsetFetchRequest7(RequestStruct):
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 9
    API_VERSION = _STABLE
    RESPONSE_TYPE = _OffsetFetchResponse7
    SCHEMA = Schema(
        ("consumer_group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class _OffsetFetch(Request[OffsetFetchRequest_v3 | _OffsetFetchRequest7]):
    API_KEY = 9

    def __init__(self, group_id: str, tp: TopicPartition, require_stable: bool) -> None:
        self._group_id = group_id
        self._tp = tp
        self._require_stable = require_stable

    def build(
        self, request_struct_class: type[OffsetFetchRequest_v3 | _OffsetFetchRequest7]
    ) -> OffsetFetchRequest_v3 | _OffsetFetchRequest7:
        """As the broker speaks it."""
        topic, partitions = self._tp.topic, [self._tp.partition]
        if request_struct_class.API_VERSION < _STABLE:
            return request_struct_class(self._group_id, [(topic, partitions)])
        return request_struct_class(self._group_id, [(topic, partitions, {})], self._require_stable, {})
