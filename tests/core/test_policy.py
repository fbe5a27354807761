"""When trainings are due."""

import pytest

from streamer.core.policy import RetrainPolicy


def due(policy: RetrainPolicy, ticks: int) -> list[int]:
    """The ticks, counted from one, with which a training is due."""
    return [i for i in range(1, ticks + 1) if policy.tick() is not None]


@pytest.mark.parametrize(
    ("first", "every", "expected"),
    [(5, 10, [5, 15, 25, 35]), (10, 5, [10, 15, 20, 25, 30, 35]), (1, 20, [1, 21]), (40, 1, [])],
)
def test_the_first_is_due_after_first_ticks_and_then_every_so_many(first: int, every: int, expected: list[int]) -> None:
    assert due(RetrainPolicy(first, every), 39) == expected


def test_with_every_0_a_training_comes_on_request_only() -> None:
    policy = RetrainPolicy(first=5, every=0)

    assert due(policy, 50) == []
    assert policy.wanted is None
    assert policy.request("operator") == "operator"
    assert policy.wanted == "operator"


def test_a_training_is_wanted_until_it_has_ended() -> None:
    policy = RetrainPolicy(first=2, every=10)
    wanted = []
    for ticks in (1, 1, 5):
        due(policy, ticks)
        wanted.append(policy.wanted)

    policy.ended()

    assert [*wanted, policy.wanted] == [None, "schedule", "schedule", None]
    assert due(policy, 5) == [5], "the next one keeps its time"


def test_a_request_leaves_the_schedule_as_it_was() -> None:
    policy = RetrainPolicy(first=5, every=10)
    due(policy, 3)
    policy.request("operator")

    assert due(policy, 30) == [2, 12, 22]
