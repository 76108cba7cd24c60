"""Other serializers, and what JSON changes."""

import html
import json
import pickle
from datetime import timedelta

import pytest
from django.contrib.sessions.serializers import JSONSerializer

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates
from tests.engine.helpers import raise_conflicts, the_document


class PickleSerializer:
    """One that keeps tuples, keys that are numbers, and objects."""

    def dumps(self, data):
        return pickle.dumps(data)

    def loads(self, body):
        return pickle.loads(body)


def test_a_serializer_that_keeps_types_loses_nothing(do, two, held, settings):
    settings.SESSION_SERIALIZER = "tests.engine.test_serializers.PickleSerializer"
    earlier, later = two(point=(1, 2), moment=dates.utc_now())
    earlier["number"] = {1: timedelta(1)}
    later["point"] = [1, 2]
    do(earlier, "_get_session")[7] = "seven"

    do(earlier, "save")
    do(later, "save")

    data = held(later)
    assert (data["point"], data["number"], data[7]) == ([1, 2], {1: timedelta(1)}, "seven")
    assert later["moment"] == data["moment"]


def test_keys_and_values_that_json_changes_are_compared_as_stored(do, two, held):
    earlier, later = two(a=1)
    later["point"] = (1, 2)
    do(later, "_get_session")[1] = "one"
    do(later, "save")
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "c": 3, "point": [1, 2], "1": "one"}
    assert later["point"] == (1, 2)
    assert do(later, "_get_session")[1] == "one"


class KeepsSets(JSONSerializer):
    """Writes a set in another order each time, as processes do whose hashes differ."""

    turns = 0

    def dumps(self, data):
        return json.dumps(data, default=self.tagged).encode()

    def tagged(self, items):
        type(self).turns += 1
        items = sorted(items, key=repr)
        turned = self.turns % len(items)
        return {"set": items[turned:] + items[:turned]}

    def loads(self, body):
        return json.loads(body, object_hook=self.untagged)

    def untagged(self, found):
        return frozenset(found["set"]) if "set" in found else found


class Escapes(JSONSerializer):
    """Brings a text back otherwise than it was, again and again."""

    def dumps(self, data):
        return json.dumps(self.escaped(data)).encode()

    def escaped(self, value):
        if isinstance(value, dict):
            return {key: self.escaped(item) for key, item in value.items()}
        return html.escape(value) if isinstance(value, str) else value


@pytest.fixture
def keeps_sets(settings):
    settings.SESSION_SERIALIZER = f"{__name__}.KeepsSets"


WITH_SETS = {
    "a set": {"a", "b", "c"},
    "in a list": [1.5, {"a", "b"}],
    "in a dict": {1: {"a", "b"}, "t": (1, None)},
    "nested": {frozenset({"a", "b"}), frozenset({"c", "d"})},
}


@pytest.mark.parametrize("value", WITH_SETS.values(), ids=WITH_SETS)
def test_a_set_that_was_only_read_undoes_no_change(do, two, held, keeps_sets, value):
    earlier, later = two(seen=value, same=value)
    earlier["seen"] = {"new"}
    later["theme"] = "dark"

    do(earlier, "save")
    do(later, "save")

    data = held(later)
    assert (data["seen"], data["theme"]) == ({"new"}, "dark")
    assert later["seen"] == {"new"}


@pytest.mark.parametrize("value", WITH_SETS.values(), ids=WITH_SETS)
def test_nor_is_it_in_conflict(do, two, held, keeps_sets, settings, value):
    raise_conflicts(settings)
    earlier, later = two(seen=value)
    earlier["theme"] = "dark"
    later["seen"] = {"new"}

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"seen": {"new"}, "theme": "dark"}


def test_a_set_that_does_not_differ_stays_the_same_object(do, two, keeps_sets):
    earlier, later = two(a=1)
    seen = later["seen"] = {"a", "b", "c"}  # which is loaded as a frozenset
    earlier["theme"] = "dark"

    do(earlier, "save")
    do(later, "save")

    assert later["seen"] is seen
    assert later["theme"] == "dark"


def test_a_poll_writes_no_set_anew_after_a_race(do, two, held, keeps_sets):
    earlier, later = two(seen=set("abcdefg"))
    earlier["theme"] = "dark"
    do(earlier, "save")
    before = the_document()

    do(later, "save")

    assert the_document()["payload"] == before["payload"]
    assert dict(later.items()) == {"seen": set("abcdefg"), "theme": "dark"}


@pytest.mark.parametrize("value", WITH_SETS.values(), ids=WITH_SETS)
def test_with_track_nested_it_has_not_changed(do, two, keeps_sets, tracking, value):
    store, _ = two(seen=value)

    assert not store.modified


def test_with_track_nested_a_change_in_it_is_noticed(do, two, held, keeps_sets, tracking):
    store, _ = two(seen=[{"a", "b"}])
    store["seen"][0] |= {"c"}

    assert store.modified
    do(store, "save")

    assert not store.modified
    assert held(store) == {"seen": [{"a", "b", "c"}]}
    store["seen"][0] -= {"c"}
    store.modified = False
    assert not store.modified


def test_a_value_that_does_not_come_back_the_same_has_not_changed(
    do, two, held, settings, tracking
):
    settings.SESSION_SERIALIZER = f"{__name__}.Escapes"
    earlier, later = two(name="a & b", items={"a": "<b>"})
    assert not later.modified
    earlier["name"] = earlier["items"] = "new"
    later["theme"] = "dark"

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"name": "new", "items": "new", "theme": "dark"}


class Counts(JSONSerializer):
    calls = []

    def dumps(self, data):
        self.calls.append("dumps")
        return super().dumps(data)

    def loads(self, body):
        self.calls.append("loads")
        return super().loads(body)


def test_a_save_without_a_conflict_serializes_once(do, stored, settings):
    settings.SESSION_SERIALIZER = f"{__name__}.Counts"
    store = SessionStore(stored(a=[1]).session_key)
    do(store, "_get_session")["b"] = {"c": 2}
    Counts.calls.clear()

    do(store, "save")

    assert Counts.calls == ["dumps"]
