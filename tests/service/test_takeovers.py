from streamer.service.takeovers import Takeovers


def test_three_in_five_minutes_are_the_work_of_another_process_under_our_name() -> None:
    takeovers = Takeovers(30.0, is_static=True)
    assert [takeovers.are_endless(now) for now in (0.0, 120.0, 240.0)] == [False, False, True]


def test_three_in_a_longer_time_are_chance() -> None:
    takeovers = Takeovers(30.0, is_static=True)
    assert not any(takeovers.are_endless(now) for now in (0.0, 200.0, 400.0, 600.0))


def test_without_a_name_of_its_own_no_other_process_can_share_it() -> None:
    takeovers = Takeovers(30.0, is_static=False)
    assert not any(takeovers.are_endless(now) for now in (0.0, 1.0, 2.0, 3.0))


def test_that_which_follows_when_the_process_stood_still_does_not_count() -> None:
    """A zombie that wakes up has lost its partitions by itself."""
    takeovers = Takeovers(30.0, is_static=True)
    for now in (0.0, 40.0, 80.0, 120.0):
        takeovers.lagged(31.0)
        assert not takeovers.are_endless(now)
    assert [takeovers.are_endless(now) for now in (121.0, 122.0, 123.0)] == [False, False, True]


def test_a_short_lag_excuses_nothing() -> None:
    takeovers = Takeovers(30.0, is_static=True)
    for now in (0.0, 1.0):
        takeovers.lagged(29.0)
        assert not takeovers.are_endless(now)
    assert takeovers.are_endless(2.0)


def test_a_place_in_the_group_that_is_lost_six_times_in_two_sessions_has_been_taken_by_another_process() -> None:
    """They need not even fence each other: each hands its partitions over in good order, several times a second."""
    takeovers = Takeovers(30.0, is_static=True)
    for number in range(5):
        takeovers.displaced(now=3.0 * number)
        assert not takeovers.is_displaced
    takeovers.displaced(now=15.0)
    assert takeovers.is_displaced
    assert takeovers.are_endless(now=15.0)


def test_lost_sessions_are_no_sign_of_another_process() -> None:
    takeovers = Takeovers(30.0, is_static=True)
    for number in range(20):
        takeovers.displaced(now=31.0 * number)
        assert not takeovers.is_displaced


def test_nobody_takes_the_place_of_a_member_without_a_name() -> None:
    takeovers = Takeovers(30.0, is_static=False)
    for number in range(20):
        takeovers.displaced(now=1.0 * number)
    assert not takeovers.is_displaced
