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


def test_what_comes_due_while_one_is_under_way_wants_one_more_when_that_has_ended() -> None:
    policy = RetrainPolicy(first=2, every=10)
    due(policy, 2)
    policy.begun()
    due(policy, 25)
    wanted = [policy.wanted]
    for _ in range(2):
        policy.ended()
        wanted.append(policy.wanted)

    assert wanted == ["schedule", "schedule", None], "two that were missed are made up for by one"


def test_what_comes_due_before_the_history_is_taken_is_in_it() -> None:
    policy = RetrainPolicy(first=2, every=10)
    due(policy, 15)
    policy.begun()
    policy.ended()

    assert policy.wanted is None


def test_a_request_leaves_the_schedule_as_it_was() -> None:
    policy = RetrainPolicy(first=5, every=10)
    due(policy, 3)
    policy.request("operator")

    assert due(policy, 30) == [2, 12, 22]


def test_drift_makes_a_training_due_once_in_a_cool_down() -> None:
    policy = RetrainPolicy(first=100, every=100, cooldown=10)

    due = [i for i in range(1, 40) if policy.tick(drifted=i > 3) is not None]

    assert due == [4, 15, 26, 37]
    assert policy.wanted == "drift"


def test_drift_leaves_the_schedule_as_it_was_and_is_not_acted_on_soon_after_it() -> None:
    policy = RetrainPolicy(first=8, every=20, cooldown=5)

    reasons = {i: reason for i in range(1, 31) if (reason := policy.tick(drifted=i in (4, 10, 13, 14)))}

    assert reasons == {4: "drift", 8: "schedule", 14: "drift", 28: "schedule"}


def test_a_swap_is_given_the_cool_down_too() -> None:
    policy = RetrainPolicy(first=100, every=100, cooldown=10)
    due(policy, 3)
    policy.settle()

    assert [policy.tick(drifted=True) for _ in range(11)] == [None] * 10 + ["drift"]


def test_with_every_0_drift_makes_no_training_due() -> None:
    policy = RetrainPolicy(first=5, every=0, cooldown=1)

    assert {policy.tick(drifted=True) for _ in range(20)} == {None}


def test_a_scheduled_training_that_waited_for_others_puts_off_the_next() -> None:
    policy = RetrainPolicy(first=5, every=10)
    due(policy, 8)
    policy.waited()
    policy.ended()

    assert due(policy, 25) == [10, 20]


def test_a_training_out_of_turn_that_waited_puts_off_nothing() -> None:
    policy = RetrainPolicy(first=5, every=10)
    due(policy, 5)
    policy.ended()
    policy.request("requested")
    due(policy, 3)
    policy.waited()

    assert due(policy, 20) == [7, 17]
