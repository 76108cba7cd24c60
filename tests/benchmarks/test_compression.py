"""The sessions that are compressed, and the table of what it costs."""

import json

from benchmarks import compression


def test_a_body_is_json_of_at_least_its_size_and_the_same_at_each_call():
    bodies = compression.bodies()

    assert bodies == compression.bodies()
    assert len(bodies) == 4 * len(compression.SIZES)
    for body in bodies:
        assert body.size <= len(body.json) < body.size * 1.2
        assert json.loads(body.json)["_auth_user_id"] == "1"


def test_the_table_shows_what_share_of_the_bytes_is_left():
    times = {"processor": 10.4, "client": 20, "server": 30, "gigabit": 40}
    rows = [
        {"kind": "cart", "size": 4_000, "level": None, "bytes": 4_033, **times},
        {"kind": "cart", "size": 4_000, "level": 1, "bytes": 1_210, **times},
    ]

    assert compression.as_markdown(rows).splitlines()[2:] == [
        "| cart | 4,000 | none | 4,033 (100%) | 10 | 20 | 30 | 40 |",
        "| cart | 4,000 | 1 | 1,210 (30%) | 10 | 20 | 30 | 40 |",
    ]
