"""The checker of histories finds each fault, and accepts a history without one."""

import pytest

from tests.chaos.history import (
    DELETED,
    FAILED,
    FLUSH,
    MOVE,
    MUTATE,
    OK,
    READ,
    SAVE,
    START,
    UNKNOWN,
    Event,
    Stored,
    violations,
)

KEY, NEW_KEY = "k1", "k2"


def event(kind, began, ended, token=None, seen=None, outcome=OK, key=KEY):
    return Event("s", kind, outcome, began, ended, key, token, seen)


def check(*events, stored=(("a",),), **options):
    started = event(START, 0, 1, "a", key=None)
    documents = [Stored("s", tokens) for tokens in stored]
    return violations([started, *events], documents, **options)


A_THEN_B = [event(MUTATE, 2, 3, "b", ("a",)), event(SAVE, 2, 4, "c")]


def test_what_was_acknowledged_is_there():
    assert check(*A_THEN_B, event(READ, 5, 6, seen=("a", "b", "c")), stored=[("a", "b", "c")]) == []


def test_writes_at_the_same_time_may_have_any_order():
    events = [event(MUTATE, 2, 5, "b"), event(MUTATE, 3, 4, "c", ("a",))]

    assert check(*events, stored=[("a", "c", "b")]) == []
    assert check(*events, stored=[("a", "b", "c")]) == []


def test_a_read_at_the_time_of_a_write_may_miss_it():
    assert check(*A_THEN_B, event(READ, 2, 6, seen=("a",)), stored=[("a", "b", "c")]) == []


@pytest.mark.parametrize("stored", [("a",), ("a", "b")])
def test_a_write_of_unknown_outcome_may_be_there(stored):
    assert check(event(MUTATE, 2, 3, "b", outcome=UNKNOWN), stored=[stored]) == []


def test_a_failed_write_may_be_missing():
    assert check(event(MUTATE, 2, 3, "b", outcome=FAILED)) == []


def test_a_write_may_be_there_until_a_sign_out_deletes_the_session():
    events = [event(MUTATE, 2, 5, "b", outcome=DELETED), event(FLUSH, 3, 4)]

    assert check(*events, event(READ, 2, 3, seen=("a", "b")), stored=[]) == []


def test_a_write_may_find_that_the_session_has_moved():
    assert check(event(MOVE, 2, 5), event(MUTATE, 3, 4, "b", outcome=DELETED)) == []


def test_a_move_may_have_left_the_key_before_a_sign_out():
    events = [event(MOVE, 2, 9, outcome=DELETED), event(FLUSH, 5, 8)]

    assert check(*events, event(READ, 3, 4), stored=[], may_roll_back=True) == []


def test_a_session_may_be_gone_once_a_sign_out_has_begun():
    events = [event(FLUSH, 2, 5, outcome=UNKNOWN), event(READ, 3, 4)]

    assert check(*events, stored=[]) == []


def test_a_key_may_open_nothing_once_a_move_has_begun():
    assert check(event(MOVE, 2, 5), event(READ, 3, 4)) == []


@pytest.mark.parametrize("stored", [[], [("a",)]])
def test_a_sign_out_of_unknown_outcome_may_have_happened(stored):
    assert check(event(FLUSH, 2, 3, outcome=UNKNOWN), stored=stored) == []


def test_a_session_whose_move_was_given_up_may_have_two_documents():
    events = [event(MOVE, 2, 3, outcome=UNKNOWN), event(MUTATE, 4, 5, "b", ("a",))]

    assert check(*events, stored=[("a", "b"), ("a",)]) == []


def test_what_was_only_read_may_be_rolled_back():
    events = [event(MUTATE, 2, 3, "b", outcome=UNKNOWN), event(READ, 4, 5, seen=("a", "b"))]

    assert check(*events, event(READ, 6, 7, seen=("a",)), may_roll_back=True) == []


def test_a_sign_out_that_was_not_acknowledged_may_be_rolled_back():
    events = [event(FLUSH, 2, 3, outcome=UNKNOWN), event(READ, 4, 5)]

    assert check(*events, event(READ, 6, 7, seen=("a",)), may_roll_back=True) == []


BROKEN = {
    "an acknowledged write is lost": (A_THEN_B, [("a", "b")], "lacks c"),
    "a first save is lost": ([], [()], "lacks a"),
    "a write is done twice": (A_THEN_B, [("a", "b", "b", "c")], "has b 2 times"),
    "a write is done twice, which only a read shows": (
        [*A_THEN_B, event(READ, 5, 6, seen=("a", "b", "b", "c"))],
        [("a", "b", "c")],
        "a read has b 2 times",
    ),
    "a write of unknown outcome is done twice": (
        [event(MUTATE, 2, 3, "b", outcome=UNKNOWN)],
        [("a", "b", "b")],
        "has b 2 times",
    ),
    "writes are in the wrong order": (
        [event(MUTATE, 2, 3, "b", ("a",)), event(MUTATE, 4, 5, "c", ("a", "b"))],
        [("a", "c", "b")],
        "the database has b after c",
    ),
    "the first of three is the last": (
        [event(MUTATE, 2, 3, "b"), event(MUTATE, 4, 9, "c"), event(MUTATE, 3.5, 8, "d")],
        [("a", "c", "d", "b")],
        "the database has b after c",
    ),
    "a failed write is there": (
        [event(MUTATE, 2, 3, "b", outcome=FAILED)],
        [("a", "b")],
        "has b, which failed",
    ),
    "a read sees a failed write": (
        [event(SAVE, 2, 3, "b", outcome=FAILED), event(READ, 2, 3, seen=("a", "b"))],
        [("a",)],
        "a read has b, which failed",
    ),
    "a write fails since the session was deleted, and is there after a move": (
        [event(MOVE, 2, 5), event(MUTATE, 3, 4, "b", outcome=DELETED)],
        [("a", "b")],
        "has b, which failed",
    ),
    "a session was deleted, and no client did it": (
        [event(MUTATE, 2, 3, "b", outcome=DELETED), event(FLUSH, 4, 5)],
        [],
        "a mutate found nothing",
    ),
    "a move loses the session": (
        [event(MOVE, 2, 3, outcome=DELETED)],
        [],
        "a move found nothing",
    ),
    "a token of another session is there": ([], [("a", "x")], "has x, which belongs to no write"),
    "a read misses an acknowledged write": (
        [*A_THEN_B, event(READ, 5, 6, seen=("a", "b"))],
        [("a", "b", "c")],
        "a read lacks c, which was acknowledged",
    ),
    "a mutate misses an acknowledged write": (
        [event(SAVE, 2, 3, "b"), event(MUTATE, 4, 5, "c", seen=("a",))],
        [("a", "b", "c")],
        "a mutate lacks b, which was acknowledged",
    ),
    "a read misses what another read has shown": (
        [
            event(MUTATE, 2, 3, "b", outcome=UNKNOWN),
            event(READ, 4, 5, seen=("a", "b")),
            event(READ, 6, 7, seen=("a",)),
        ],
        [("a", "b")],
        "a read lacks b, which was read",
    ),
    "what was read is not there in the end": (
        [event(MUTATE, 2, 3, "b", outcome=UNKNOWN), event(READ, 4, 5, seen=("a", "b"))],
        [("a",)],
        "the database lacks b, which was read",
    ),
    "a read finds nothing": ([event(READ, 2, 3)], [("a",)], "a read found nothing"),
    "a read finds nothing before the sign-out begins": (
        [event(READ, 2, 3), event(FLUSH, 4, 5)],
        [],
        "a read found nothing",
    ),
    "a read finds nothing under a key that was not moved": (
        [event(MOVE, 2, 3, key=KEY), event(READ, 4, 5, key=NEW_KEY)],
        [("a",)],
        "a read found nothing",
    ),
    "a read finds nothing after a move that failed": (
        [event(MOVE, 2, 3, outcome=FAILED), event(READ, 4, 5)],
        [("a",)],
        "a read found nothing",
    ),
    "a read finds a signed-out session": (
        [event(FLUSH, 2, 3), event(READ, 4, 5, seen=("a",))],
        [],
        "a read found the session after its end",
    ),
    "a save is acknowledged after the sign-out": (
        [event(FLUSH, 2, 3), event(SAVE, 4, 5, "b")],
        [],
        "a save found the session after its end",
    ),
    "a move is acknowledged after the sign-out": (
        [event(FLUSH, 2, 3), event(MOVE, 4, 5)],
        [],
        "a move found the session after its end",
    ),
    "a signed-out session is left": ([event(FLUSH, 2, 3)], [("a",)], "has it after its end"),
    "a session comes back": (
        [
            event(FLUSH, 2, 3, outcome=UNKNOWN),
            event(READ, 4, 5),
            event(READ, 6, 7, seen=("a",)),
        ],
        [("a",)],
        "a read found the session after its end",
    ),
    "a session has two documents": ([event(MOVE, 2, 3)], [("a",), ("a",)], "has 2 documents"),
    "a session is lost": ([], [], "has 0 documents"),
    "a session has two documents after a sign-out of unknown outcome": (
        [event(FLUSH, 2, 3, outcome=UNKNOWN)],
        [("a",), ("a",)],
        "has 2 documents",
    ),
    "a write is done twice in a session whose move was given up": (
        [event(MOVE, 2, 3, outcome=UNKNOWN)],
        [("a",), ("a", "a")],
        "has a 2 times",
    ),
}


@pytest.mark.parametrize(("events", "stored", "fault"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_found(events, stored, fault):
    found = check(*events, stored=stored)

    assert any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("events", "stored", "fault"),
    [
        (A_THEN_B, [("a", "b")], "lacks c"),
        ([event(FLUSH, 2, 3)], [("a",)], "has it after its end"),
        ([event(FLUSH, 2, 3), event(READ, 4, 5, seen=("a",))], [], "found the session after"),
    ],
)
def test_what_was_acknowledged_is_not_rolled_back(events, stored, fault):
    assert any(fault in one for one in check(*events, stored=stored, may_roll_back=True))


def test_a_session_that_no_client_began_is_found():
    assert violations([], [Stored("s", ("a",))]) == ["s: no client began it"]
