"""What is removed from an error and from its traceback."""

import asyncio
import builtins
import sys
from functools import partial

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.exceptions import KeysUnavailable, ServerUnavailable
from django_mongo_sessions.mongo import tracebacks
from tests.conftest import collection

VALUE = "a value that nobody may see"


class Account(SessionStore):
    """Stores a value beside the session."""

    def to_document(self, data):
        return {"account": data.get("account")}


def refused(do, error, **data):
    """Return the error with which the server refuses a session."""
    store = Account()
    store.update(data)
    with pytest.raises(error) as raised:
        do(store, "save")
    return raised.value


@pytest.mark.only("mongod")
def test_an_error_of_a_unique_index_names_the_index_and_no_value(do):
    collection().create_index("account", unique=True, sparse=True)
    first = Account()
    first["account"] = VALUE
    do(first, "save")

    error = refused(do, DuplicateKeyError, account=VALUE)

    collection().drop_index("account_1")
    assert "index: account_1" in str(error)
    assert VALUE not in str(error) + repr(error) + str(error.details)
    assert error.details["keyPattern"] == {"account": 1}


@pytest.mark.only("mongod")
def test_an_error_of_a_validator_quotes_no_value(do):
    schema = {"$jsonSchema": {"properties": {"account": {"bsonType": "int"}}}}
    do(SessionStore(), "create")
    database = collection().database
    database.command("collMod", collection().name, validator=schema)

    error = refused(do, WriteError, account=VALUE)

    database.command("collMod", collection().name, validator={})
    assert str(error) == "Document failed validation"
    assert VALUE not in repr(error) + str(error.details)


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        (13, 'not authorized on a to execute command { find: "s", filter: { a: 1 } }', "{ find:"),
        (10107, "not primary", "not primary"),
        (None, "no code", "no code"),
    ],
)
def test_an_error_that_quotes_nothing_is_shown(code, message, shown):
    error = OperationFailure(message, code, {"codeName": "Name", "errmsg": VALUE})

    tracebacks.withhold_values(error, None)

    assert shown in str(error)
    assert "filter" not in str(error)
    assert VALUE not in str(error) + str(error.details)


def test_only_the_name_is_shown_of_an_error_that_may_quote_a_session():
    error = OperationFailure(f"cannot {VALUE}", 14, {"codeName": "TypeMismatch", "errmsg": VALUE})

    tracebacks.withhold_values(error, None)

    assert str(error).startswith("TypeMismatch, code 14 (")
    assert error.code == 14
    assert VALUE not in repr(error) + str(error.details)


def test_an_error_without_details_is_an_error_too():
    error = OperationFailure(f"cannot {VALUE}", 14)

    tracebacks.withhold_values(error, None)

    assert str(error).startswith("error, code 14 (")


def test_a_document_that_bson_cannot_encode_is_not_kept():
    error = InvalidDocument(f"cannot encode object: {{'{VALUE}'}}, of type: <class 'set'>")
    error._document = {"a": VALUE}
    other = InvalidDocument("another text")
    for each in (error, other):
        tracebacks.withhold_values(each, None)

    assert str(error) == "cannot encode a value of to_document(), of type: <class 'set'>"
    assert error._document is None
    assert str(other) == "another text"


def test_an_exception_that_was_being_handled_is_not_the_engines():
    foreign = InvalidDocument("cannot encode object: 7, of type: <class 'int'>")
    ours = PyMongoError("down")
    ours.__context__ = foreign

    tracebacks.withhold_values(ours, foreign)

    assert str(foreign) == "cannot encode object: 7, of type: <class 'int'>"


@pytest.fixture
def refusing(mongod_engine, settings):
    """The engine on a collection that refuses every session."""
    database = collection().database
    database.create_collection("refusing", validator={"absent": {"$exists": True}})
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "COLLECTION": "refusing",
        "ASYNC": "native",
    }
    yield
    collection().drop()


@pytest.mark.parametrize("form", ["sync", "native"])
def test_an_exception_that_a_view_was_handling_is_left_alone(refusing, form):
    foreign = OperationFailure(f"cannot {VALUE}", 14, {"errmsg": VALUE})

    async def asave(store):
        try:
            raise foreign
        except OperationFailure:
            await store.asave()

    def save(store):
        try:
            raise foreign
        except OperationFailure:
            store.save()

    with pytest.raises(WriteError):
        save(SessionStore()) if form == "sync" else asyncio.run(asave(SessionStore()))

    assert VALUE in str(foreign)
    assert foreign.details == {"errmsg": VALUE}


# The frames of a traceback


class Money:
    """A value that BSON cannot hold."""


def raised_by(function, *args):
    """Return the exception of a function, with its traceback."""
    try:
        function(*args)
    except Exception:
        return sys.exc_info()[1]


def in_pymongo(source):
    """Return a function `call` that is defined by this source in a module of PyMongo's."""
    module = {"__name__": "pymongo.pool"}
    exec(source, module)
    return module["call"]


def frames(error):
    step, found = error.__traceback__, []
    while step is not None:
        found.append(step.tb_frame)
        step = step.tb_next
    return found


def encode_for_the_project():
    rate_of_the_project = 1.1
    raise ValueError(f"no rate for {rate_of_the_project}")


def test_frames_that_pymongo_calls_for_the_project_keep_their_variables():
    call = in_pymongo("def call(encode):\n    document = 1\n    encode()")
    error = raised_by(call, encode_for_the_project)

    tracebacks.forget_values(error)

    assert "document" in frames(error)[-2].f_locals
    assert "rate_of_the_project" in frames(error)[-1].f_locals


def test_frames_that_pymongo_calls_for_the_engine_are_emptied(mongod_engine, settings):
    class Priced(SessionStore):
        def to_document(self, data):
            return {"price": Money()}

    error = raised_by(Priced().save)
    tracebacks.forget_values(error)  # those that still ran, too

    assert isinstance(error, InvalidDocument)
    for frame in frames(error):
        if frame.f_globals["__name__"].startswith(("pymongo.", "bson.", "django_mongo_sessions.")):
            assert frame.f_locals == {}


@pytest.mark.parametrize("form", ["sync", "native"])
@pytest.mark.parametrize(
    "source",
    [
        "def call(encode):\n    document = 1\n    encode()",
        "def call(encode):\n    document = 1\n    try:\n        encode()\n"
        "    except ValueError:\n        raise KeyError",
    ],
    ids=["passes", "leads to another"],
)
def test_frames_that_pymongo_calls_for_a_shared_clients_factory_keep_their_variables(
    settings, form, source
):
    setting = "CLIENT" if form == "sync" else "ASYNC_CLIENT"
    factory = partial(in_pymongo(source), encode_for_the_project)
    settings.MONGO_SESSIONS = {setting: factory, "ASYNC": "native"}
    store = SessionStore("0123456789abcdefghijklmnopqrstuv")

    error = raised_by(store.load) if form == "sync" else raised_by(asyncio.run, store.aload())
    tracebacks.forget_values(error)

    cause = error.__context__ if isinstance(error, KeyError) else error
    assert "document" in frames(cause)[-2].f_locals
    assert "rate_of_the_project" in frames(cause)[-1].f_locals
    for frame in frames(error):
        if frame.f_globals["__name__"].startswith("django_mongo_sessions."):
            assert frame.f_locals == {}


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_error_that_was_caught_inside_pymongo_is_emptied_with_the_engines(is_ours):
    inner = raised_by(in_pymongo("def call():\n    document = 1\n    raise ValueError"))
    inner.__traceback__ = inner.__traceback__.tb_next  # without the frame of this test
    outer = raised_by(lambda: SessionStore().mutate(1) if is_ours else 1 / 0)
    outer.__context__ = inner

    tracebacks.forget_values(outer)

    assert ("document" in frames(inner)[0].f_locals) == (not is_ours)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of exceptions")
def test_the_frames_of_each_task_are_emptied():
    """Also if a view raises one exception of a group, whose context is the group."""
    first, second = (raised_by(SessionStore().mutate, 1) for _ in range(2))
    first.__context__ = builtins.ExceptionGroup("tasks", [first, second])

    tracebacks.forget_values(first)

    for error in first, second:
        names = [frame.f_globals["__name__"] for frame in frames(error) if frame.f_locals == {}]
        assert "django_mongo_sessions.backends.mongodb" in names


def test_a_circular_chain_of_errors_ends():
    first, second = PyMongoError("a"), DocumentTooLarge("b")
    first.__context__, second.__context__ = second, first

    tracebacks.forget_values(first)


# What a traceback shows


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeysUnavailable("ENCRYPTION_KEYS raised OSError."), OSError("raised")),
        (AutoReconnect("a:1: connection closed"), ServerSelectionTimeoutError("no server")),
        (AutoReconnect("a:1: "), OSError("")),
        (ValueError("no cart: cut"), AutoReconnect("cut")),
    ],
)
def test_a_cause_that_tells_something_stays(error, cause):
    error.__cause__ = cause

    tracebacks.leave_out_repeats(error)

    assert error.__cause__ is cause


def test_what_led_to_a_cause_that_is_left_out_stays():
    error, quoted, handled = AutoReconnect("a:1: cut"), OSError("cut"), ValueError("the view's")
    quoted.__context__ = handled
    error.__cause__ = quoted

    tracebacks.leave_out_repeats(error)

    assert error.__cause__ is None
    assert error.__context__ is handled
    assert not error.__suppress_context__


def test_a_call_that_was_not_sent_shows_what_the_view_has_raised():
    refused, bug = ServerUnavailable("still down"), ValueError("the view's")
    refused.__context__ = bug

    tracebacks.leave_out_repeats(refused)

    assert refused.__context__ is bug
    assert tracebacks.first(refused) is refused
