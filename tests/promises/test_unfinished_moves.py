"""The last write of a move to a new key may not have been applied: nothing is lost, or comes back.

From then on the session has its new key, and its old key may open it too. The next write finishes
the move.
"""

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions import middleware as djangos
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import NetworkTimeout, PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import documents
from tests.conftest import collection, count_sessions
from tests.promises.test_lost_replies import undone, unheard

LATE = NetworkTimeout("no answer")


@pytest.fixture
def moved(do, stored, lose):
    """`moved(how, **data)` makes a store whose move was not confirmed; and its old key."""

    def moved(how, **data):
        old = stored(**data).session_key
        store = SessionStore(old)
        lose("replace_with", how, LATE)
        with pytest.raises(NetworkTimeout):
            do(store, "cycle_key")
        assert store.session_key != old
        assert store.modified
        return store, old

    return moved


def load(do, key):
    return do(SessionStore(key), "load")


def save(do, store, **data):
    store.update(data)
    do(store, "save")


@pytest.mark.parametrize("how", [undone, unheard])
@pytest.mark.parametrize("verb", ["save", "mutate", "cycle_key"])
def test_the_next_write_ends_the_old_key(do, moved, how, verb):
    store, old = moved(how, **{SESSION_KEY: "7"})

    do(store, verb, *([lambda data: None] if verb == "mutate" else []))

    assert load(do, store.session_key) == {SESSION_KEY: "7"}
    assert load(do, old) == {}
    assert count_sessions() == 1


def test_what_was_stored_under_the_old_key_since_comes_along(do, moved):
    store, old = moved(undone, a=1)
    save(do, SessionStore(old), theirs=1)
    store["ours"] = 1

    save(do, store)

    expected = {"a": 1, "theirs": 1, "ours": 1}
    assert load(do, store.session_key) == dict(store.items()) == expected
    assert load(do, old) == {}


def test_what_is_stored_there_while_it_comes_along_does_too(do, moved, before):
    store, old = moved(undone, a=1)
    save(do, SessionStore(old), theirs=1)
    other = SessionStore(old)
    other["late"] = 1
    before("update", other.save)

    save(do, store, ours=1)

    assert load(do, store.session_key) == {"a": 1, "theirs": 1, "ours": 1, "late": 1}
    assert load(do, old) == {}


def test_a_save_that_is_repeated_after_that_finishes_it(do, moved, before, lose):
    store, old = moved(undone, a=1)
    save(do, SessionStore(old), theirs=1)
    before("update", lambda: lose("replace_with", undone, LATE))
    with pytest.raises(NetworkTimeout):
        save(do, store, ours=1)

    do(store, "save")

    assert load(do, store.session_key) == {"a": 1, "theirs": 1, "ours": 1}
    assert load(do, old) == {}


def test_a_session_that_was_cleared_since_takes_nothing_along(do, moved):
    store, old = moved(undone, a=1)
    save(do, SessionStore(old), theirs=1)
    store.clear()

    save(do, store, ours=1)

    assert load(do, store.session_key) == {"ours": 1}
    assert load(do, old) == {}


@pytest.mark.parametrize("verb", ["save", "mutate", "cycle_key"])
def test_a_sign_out_by_the_old_key_ends_the_new_one(do, moved, verb):
    store, old = moved(undone, **{SESSION_KEY: "7"})
    do(SessionStore(old), "flush")

    with pytest.raises(UpdateError):
        do(store, verb, *([lambda data: None] if verb == "mutate" else []))

    assert count_sessions() == 0


def test_an_old_key_that_has_opened_nothing_for_long_was_not_signed_out(do, moved):
    """The pointer was there, and has expired."""
    store, _ = moved(unheard, **{SESSION_KEY: "7"})
    collection().delete_one({"revision": -1})
    move = store._known.unfinished_move
    began = move.began - documents.MARKER_AGE / 2
    store._known.unfinished_move = move._replace(began=began)

    save(do, store, a=1)

    assert load(do, store.session_key) == {SESSION_KEY: "7", "a": 1}


def test_an_anonymous_session_that_is_gone_under_its_old_key_goes_on(do, moved):
    store, old = moved(undone, a=1)
    do(SessionStore(old), "delete")

    save(do, store, b=2)

    assert load(do, store.session_key) == {"a": 1, "b": 2}


def test_what_does_not_open_under_the_old_key_is_left_there(do, moved):
    store, old = moved(undone, a=1)
    change = {"payload": b"\1forged", "write_id": documents.new_write_id()}
    collection().update_one({"_id": documents.document_id(old)}, {"$set": change})

    save(do, store, b=2)

    assert load(do, store.session_key) == {"a": 1, "b": 2}
    assert count_sessions() == 2


# Flushing


@pytest.mark.parametrize("how", [undone, unheard])
def test_a_flush_leaves_the_session_under_neither_key(do, moved, how):
    store, _ = moved(how, **{SESSION_KEY: "7"})

    do(store, "flush")

    assert count_sessions() == 0


# The browser's cookie


def signed_in():
    session = SessionStore()
    session[SESSION_KEY] = "7"
    session.save()
    return session.session_key


def logs_in(status, verb="cycle_key"):
    """Return a view that answers with this status, whatever it meets."""

    async def view(call):
        try:
            await call(verb)
        except PyMongoError:
            return status
        return 200

    return view


@pytest.mark.parametrize("how", [undone, unheard])
@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_the_browser_gets_the_new_key_whatever_the_view_answers(visit, lose, how, status):
    key = signed_in()
    lose("replace_with", how, LATE)

    response = visit(logs_in(status), key)

    cookie = response.cookies["sessionid"]
    assert cookie.value != key
    assert SessionStore(cookie.value).load() == {SESSION_KEY: "7"}
    assert cookie["max-age"] > 0
    assert "Cookie" in response["Vary"]


@pytest.mark.parametrize("kind", [SessionMiddleware, djangos.SessionMiddleware])
@pytest.mark.parametrize("how", [undone, unheard])
@pytest.mark.parametrize("verb", ["cycle_key", "create"])
def test_the_browsers_key_opens_the_session_if_no_reply_to_the_insert_comes(
    visit, lose, kind, how, verb
):
    key = signed_in()
    lose("insert", how, LATE)

    response = visit(logs_in(200, verb), key, kind)

    assert not response.cookies
    assert SessionStore(key).load() == {SESSION_KEY: "7"}


@pytest.mark.parametrize("how", [undone, unheard])
@pytest.mark.parametrize("status", [200, 404])
def test_it_does_with_djangos_middleware_too(visit, lose, how, status):
    key = signed_in()
    lose("replace_with", how, LATE)

    response = visit(logs_in(status), key, djangos.SessionMiddleware)

    assert SessionStore(response.cookies["sessionid"].value).load() == {SESSION_KEY: "7"}


def test_it_does_if_the_page_of_the_error_meets_the_outage_again(visit, lose):
    key = signed_in()
    lose("replace_with", unheard, LATE)

    async def view(call):
        try:
            await call("cycle_key")
        except PyMongoError:
            await call("exists", key)

    response = visit(view, key)

    assert response.status_code == 503
    assert SessionStore(response.cookies["sessionid"].value).load() == {SESSION_KEY: "7"}
