"""The three-way merge, without a server."""

import json
import pickle

import pytest

from django_mongo_sessions.engine.merging import bring_up_to_date, changes, merge


def dump(data):
    return json.dumps(data).encode()


def load(body):
    return json.loads(body)


ABSENT = object()
# What was loaded, what they stored, what we changed it to, the result, and whether both sides have
# changed it to different values.
CASES = [
    ("set by us", ABSENT, ABSENT, 1, 1, False),
    ("set by them", ABSENT, 1, ABSENT, 1, False),
    ("set by both to the same", ABSENT, 1, 1, 1, False),
    ("set by both", ABSENT, 1, 2, 2, True),
    ("changed by us", 0, 0, 1, 1, False),
    ("changed by them", 0, 1, 0, 1, False),
    ("changed by both to the same", 0, 1, 1, 1, False),
    ("changed by both", 0, 1, 2, 2, True),
    ("deleted by us", 0, 0, ABSENT, ABSENT, False),
    ("deleted by them", 0, ABSENT, 0, ABSENT, False),
    ("deleted by both", 0, ABSENT, ABSENT, ABSENT, False),
    ("deleted by us and changed by them", 0, 1, ABSENT, ABSENT, True),
    ("deleted by them and changed by us", 0, ABSENT, 1, 1, True),
    ("left by both", 0, 0, 0, 0, False),
    ("changed by us to what only looks the same", 1, 1, True, True, False),
]


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "outcome", "conflict"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_each_combination_of_changes_to_a_key_is_merged(base, theirs, ours, outcome, conflict):
    def side(value):
        return {"other": "x"} | ({} if value is ABSENT else {"key": value})

    merged = merge(dump, load, side(base), side(theirs), side(ours))

    assert merged.data == side(outcome)
    assert type(merged.data.get("key")) is type(side(outcome).get("key"))
    assert merged.conflicts == (["key"] if conflict else [])


def test_merging_changes_none_of_its_arguments():
    sides = {"a": 1}, {"a": 1, "b": 2}, {"c": 3}

    merge(dump, load, *sides)

    assert sides == ({"a": 1}, {"a": 1, "b": 2}, {"c": 3})


def test_values_are_merged_whole_and_never_inside():
    merged = merge(dump, load, {"cart": [1]}, {"cart": [1, 2]}, {"cart": [1, 3]})

    assert merged.data == {"cart": [1, 3]}
    assert merged.conflicts == ["cart"]


def test_equal_values_stay_the_same_objects():
    cart, seen = [1], [2]
    live = {"cart": cart, "seen": seen, "gone": 1}

    bring_up_to_date(dump, load, live, load(dump(live)), {"cart": [1], "seen": [2, 3], "new": 4})

    assert live == {"cart": [1], "seen": [2, 3], "new": 4}
    assert live["cart"] is cart


def test_a_key_is_compared_by_its_stored_name():
    live = {1: "one", 2: "two", 3: "three"}

    bring_up_to_date(dump, load, live, load(dump(live)), {"1": "one", "2": "zwei"})

    assert live == {1: "one", 2: "zwei"}


def test_a_serializer_that_keeps_types_is_merged_by_them():
    base = {"point": (1, 2)}

    merged = merge(pickle.dumps, pickle.loads, base, base, {"point": [1, 2]})

    assert merged.data == {"point": [1, 2]}


def test_a_value_that_contains_its_own_name_has_not_changed():
    name = "".join(["c", "art"])  # pickle writes once what is one object

    merged = merge(
        pickle.dumps,
        pickle.loads,
        {"cart": ["cart"]},
        {"cart": ["cart", 1]},
        {name: ["".join(["ca", "rt"])]},
    )

    assert merged.data == {"cart": ["cart", 1]}
    assert merged.conflicts == []


# Small numbers that have the same place in a set: it keeps the order in which they came.
ONE, OTHER = {0, 8}, {8, 0}
assert list(ONE) != list(OTHER)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ONE, OTHER),
        (frozenset(ONE), frozenset(OTHER)),
        ([ONE, 1.5], [OTHER, 1.5]),
        ((1, ONE), (1, OTHER)),
        ({1: ONE, (2, 3): None}, {1: OTHER, (2, 3): None}),
        ({frozenset(ONE), "a"}, {"a", frozenset(OTHER)}),
        ([float("nan"), ONE], [float("nan"), OTHER]),
    ],
)
def test_the_order_of_a_set_is_no_change(one, other):
    assert pickle.dumps(one) != pickle.dumps(other)

    assert changes(pickle.dumps, pickle.loads, {"key": one}, {"key": other}) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ONE, frozenset(ONE)),
        (ONE, {0, 8, 16}),
        ({1}, {True}),
        ({1}, {1.0}),
        ([1, 2], (1, 2)),
        ([1, 2], [2, 1]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: ONE}, {"1": OTHER}),
        ([0.0], [-0.0]),
    ],
)
def test_any_other_difference_is_one(one, other):
    assert changes(pickle.dumps, pickle.loads, {"key": one}, {"key": other}) == ["key"]


def test_a_value_that_contains_itself_is_compared_as_it_is_stored():
    one, other = [], [1]
    one.append(one)
    other.append(other)

    assert changes(pickle.dumps, pickle.loads, {"key": one}, {"key": other}) == ["key"]
