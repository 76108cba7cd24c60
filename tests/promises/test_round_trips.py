"""What each verb costs: the table in the README, measured."""

import asyncio
from pathlib import Path

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients

README = Path(__file__).resolve().parents[2] / "README.md"


def fresh(**data):
    store = SessionStore()
    store.update(data)
    store.save()
    store._forget_last_write()
    return store


def unread():
    return SessionStore(fresh(a=1).session_key)


def read():
    store = unread()
    store.get("a")
    return store


def changed():
    store = read()
    store["a"] = 2
    return store


def cleared():
    store = unread()
    store.clear()
    return store


def overtaken():
    store = changed()
    other = SessionStore(store.session_key)
    other["b"] = 1
    other.save()
    return store


def moving():
    store = read()
    other = SessionStore(store.session_key)
    other["b"] = 1
    other.save()
    return store


def just_saved():
    store = read()
    store.save()
    return store


def new():
    store = SessionStore()
    store["a"] = 1
    return store


# What is done, to which store, by which verb, and the commands that it sends.
TABLE = [
    ("`load`", unread, "load", ["find"]),
    ("`save` of a new session", new, "save", ["insert"]),
    ("`create`", new, "create", ["insert"]),
    ("`save` of a change", changed, "save", ["update"]),
    ("`save` that lost a race", overtaken, "save", ["update", "find", "update"]),
    ("`save` without a change", read, "save", ["update"]),
    ("the same within a second of the store's last write", just_saved, "save", []),
    ("`save` after `clear()` of a session that was not read", cleared, "save", ["find", "update"]),
    ("`exists`", unread, "exists", ["find"]),
    ("`delete`", unread, "delete", ["delete"]),
    ("`flush`", unread, "flush", ["delete"]),
    ("`cycle_key` of a session that was read", read, "cycle_key", ["insert", "update"]),
    ("`cycle_key` of one that was not", unread, "cycle_key", ["find", "insert", "update"]),
    (
        "`cycle_key` that lost a race",
        moving,
        "cycle_key",
        ["insert", "update", "find", "update", "update"],
    ),
    ("`mutate`", read, "mutate", ["find", "update"]),
    ("`describe`", unread, "describe", ["find"]),
    ("a cookie that cannot be a key", lambda: SessionStore("junk" * 7), "load", []),
]


def as_markdown():
    rows = ["| what | round trips | commands |", "| --- | --- | --- |"]
    for what, _, _, sent in TABLE:
        rows.append(f"| {what} | {len(sent)} | {', '.join(sent) or 'none'} |")
    return "\n".join(rows)


def arguments(store, verb):
    return {"exists": [store.session_key], "mutate": [dict.popitem]}.get(verb, [])


@pytest.mark.parametrize("form", ["sync", "native"])
@pytest.mark.parametrize(("what", "prepare", "verb", "sent"), TABLE, ids=[row[0] for row in TABLE])
def test_a_verb_sends_these_commands_and_no_others(
    mongod_engine, commands, monkeypatch, form, what, prepare, verb, sent
):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)
    store = prepare()
    commands.names()

    if form == "sync":
        getattr(store, verb)(*arguments(store, verb))
    else:
        asyncio.run(getattr(store, f"a{verb}")(*arguments(store, verb)))

    # A client says goodbye when it is closed.
    assert [name for name in commands.names() if name != "endSessions"] == sent


def test_the_readme_shows_this_table(capsys):
    table = as_markdown()

    with capsys.disabled():
        print(f"\n{table}")

    assert table in README.read_text()
