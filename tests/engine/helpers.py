"""What the tests of the engine share."""

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import runner
from tests.conftest import SESSIONS, collection

UNKNOWN = "0123456789abcdefghijklmnopqrstuv"


def the_document():
    """Return the only document there is."""
    [document] = collection().find(SESSIONS)
    return document


def change_document(**fields):
    collection().update_one({}, {"$set": fields})


def loaded(do, store):
    """Return the data of another store on the same session."""
    return do(SessionStore(store.session_key), "_get_session")


def visit(data):
    data["visits"] = data.get("visits", 0) + 1
    return data["visits"]


def raise_conflicts(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ON_CONFLICT": "raise"}


def answer(operation):
    """Make the call of an operation, and return its result, to be sent to the verb."""
    if isinstance(operation, runner.Wait):
        return None
    return operation.read(operation.call(collection()))


def finish(verb, operation):
    """Run the rest of a verb that waits for an operation's result."""
    return hand(verb, answer(operation))


def hand(verb, reply):
    """Run the rest of a verb that gets this result now."""
    while True:
        try:
            reply = answer(verb.send(reply))
        except StopIteration as stop:
            return stop.value


def outcome(steps):
    """Return what steps return that need nothing to be done."""
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("something is to be done")
