"""Other serializers, and what JSON changes."""

import pickle
from datetime import timedelta

from django_mongo_sessions.storage import dates


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
