"""What is taken out of a traceback."""

from bson.errors import InvalidDocument
from pymongo.errors import DocumentTooLarge, PyMongoError

from django_mongo_sessions.mongo import tracebacks

VALUE = "a value that nobody may see"


def test_what_an_older_pymongo_says_of_a_document_it_cannot_encode():
    error = InvalidDocument(f"Invalid document {{'a': '{VALUE}'}} | of type: <class 'set'>")
    error.args = (f"cannot encode object: {{'{VALUE}'}}, of type: <class 'set'>",)
    other = InvalidDocument("another text")
    for each in (error, other):
        tracebacks.forget_values(each)

    assert str(error) == "cannot encode a value of to_document(), of type: <class 'set'>"
    assert str(other) == "another text"


def test_a_chain_of_errors_that_bites_its_tail_has_an_end():
    first, second = PyMongoError("a"), DocumentTooLarge("b")
    first.__context__, second.__context__ = second, first

    tracebacks.forget_values(first)
