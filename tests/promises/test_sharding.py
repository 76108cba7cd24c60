"""The rules for a collection that is sharded by `{_id: "hashed"}`, command by command.

A command with an exact `_id` goes to one shard. Only work on many sessions asks all of them.
"""

import asyncio

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run_on
from tests.promises.test_round_trips import TABLE, arguments

# Sent by a client when it is closed.
NOT_OURS = ["endSessions"]


# Pairs of methods that have no row in the table. This one works on many sessions: see below.
MANY = {"clear_expired"}
# These send nothing but a load, if the session is not loaded.
LOADING = {"get_expiry_age", "get_expiry_date"}


def test_no_verb_is_missed():
    pairs = {name for name in vars(SessionStore) if f"a{name}" in vars(SessionStore)}

    assert pairs == {verb for _, _, verb, _ in TABLE} | MANY | LOADING


def send(store, verb, form, *given):
    if form == "sync":
        getattr(store, verb)(*given)
    else:
        asyncio.run(getattr(store, f"a{verb}")(*given))


def statements(sent):
    """Return the filters and documents of commands, each with the command's name."""
    for name, command in sent:
        if name == "find":
            yield name, command["filter"]
        elif name == "insert":
            yield from ((name, document) for document in command["documents"])
        elif name not in NOT_OURS:  # update, delete
            yield from ((name, statement["q"]) for statement in command[f"{name}s"])


@pytest.mark.parametrize("form", ["sync", "native"])
@pytest.mark.parametrize(("what", "prepare", "verb", "sent"), TABLE, ids=[row[0] for row in TABLE])
def test_every_command_for_one_session_names_its_id(
    mongod_engine, commands, monkeypatch, form, what, prepare, verb, sent
):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)
    store = prepare()
    commands.names()

    send(store, verb, form, *arguments(store, verb))

    asked = list(statements(commands.sent))
    assert [name for name, _ in asked] == sent
    for _, names in asked:
        assert isinstance(names["_id"], bytes)


@pytest.mark.parametrize(("what", "prepare", "verb", "sent"), TABLE, ids=[row[0] for row in TABLE])
def test_no_update_changes_an_id(mongod_engine, commands, what, prepare, verb, sent):
    """The shard key of a document stays, and no update of one session is an upsert."""
    store = prepare()
    getattr(store, verb)(*arguments(store, verb))

    updates = [command["updates"] for name, command in commands.sent if name == "update"]
    for [update] in updates:
        operators = [operator for operator in update["u"] if operator.startswith("$")]
        assert not any("_id" in update["u"][operator] for operator in operators)
        assert operators or update["u"]["_id"] == update["q"]["_id"]
        assert not update.get("upsert")


@pytest.mark.parametrize("form", ["sync", "native"])
def test_only_clear_expired_asks_all_shards(mongod_engine, commands, monkeypatch, form):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)

    send(SessionStore, "clear_expired", form)

    asked = list(statements((name, c) for name, c in commands.sent if name != "ping"))
    assert [name for name, _ in asked] == ["find", "delete"]
    for _, names in asked:
        assert set(names["_id"]) == {"$gt"}
        assert set(names["expires_at"]) == {"$lte"}


def test_no_index_of_ours_is_unique(mongod_engine, commands):
    """A sharded collection accepts a unique index only if it begins with the shard key."""
    target = clients.collection()

    run_on(target, indexes.mend())

    created = [command for name, command in commands.sent if name == "createIndexes"]
    assert len(created) == 2
    for command in created:
        [index] = command["indexes"]
        assert not index.get("unique")
