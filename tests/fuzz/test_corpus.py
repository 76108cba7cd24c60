"""What the fuzzer has kept, and what is nasty on purpose, without the fuzzer."""

import json
import struct
import tracemalloc
import zlib
from datetime import timedelta
from importlib import import_module

import bson
import pytest
from bson import Binary, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, Regex
from django.conf import settings

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import codec
from tests.conftest import IS_LONG
from tests.fuzz import __main__ as fuzz
from tests.fuzz import forging, model
from tests.fuzz.cookies import check_key
from tests.fuzz.data import Data
from tests.fuzz.guards import OLD_KEY, Violation, prepared
from tests.fuzz.session import Session
from tests.fuzz.steps import STEPS, VIEWS
from tests.fuzz.world import ID, KEY, NOW, SECRET, VICTIMS_ID, VICTIMS_KEY, world

CORPUS = [(target, path) for target in fuzz.TARGETS for path in (fuzz.CORPUS / target).iterdir()]
PRESENT = model.milliseconds(NOW)
BODY = b'{"a":1}'
SYNC_AND_ASYNC = pytest.mark.parametrize("is_async", [0, 1], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _world():
    with prepared():
        yield


@pytest.mark.parametrize(
    ("target", "path"), CORPUS, ids=lambda given: getattr(given, "name", given)
)
def test_what_the_fuzzer_kept_does_no_harm(target, path):
    import_module(f"tests.fuzz.{target}").check(path.read_bytes())


@pytest.mark.parametrize("target", fuzz.TARGETS)
@pytest.mark.parametrize("raw", [b"", b"\xff" * 512, bytes(range(256))])
def test_any_bytes_are_an_input(target, raw):
    import_module(f"tests.fuzz.{target}").check(raw)


# Cookies

KEYS = [
    "",
    "0" * 31,
    "0" * 33,
    "z" * 1_000_000,
    VICTIMS_KEY.upper(),
    VICTIMS_KEY + "\n",
    "\0" + VICTIMS_KEY,
    VICTIMS_KEY[:-1] + "\N{FULLWIDTH DIGIT ZERO}",
    "\N{KELVIN SIGN}" * 32,
    "\ud800" * 32,
    VICTIMS_ID.hex(),
    f'{{"$ne": "{VICTIMS_KEY}"}}',
    "../" + VICTIMS_KEY,
    f"{VICTIMS_KEY}; sessionid={KEY}",
]


def begin(is_async=0):
    """Begin with plain settings, sync or async."""
    world.begin(Data(bytes([is_async, 0])))


def use(key, is_async, document=None):
    """Do each step and each view on a session: at once, and after it was read, and changed."""
    for before in ([], ["look"], ["expire"]):
        for step in STEPS:
            prepare(is_async, document)
            session = Session(Data(b""), key)
            for name in (*before, step, "save", "load"):
                session.step(name)
    for view in range(len(VIEWS)):
        prepare(is_async, document)
        Session(Data(bytes([view])), None).request(b"sessionid=" + key.encode("utf-8", "replace"))


def prepare(is_async, document):
    begin(is_async)
    if document is not None:
        world.collection.stored[ID] = document


@SYNC_AND_ASYNC
@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:30])
def test_a_cookie_that_is_no_key_reads_nothing_and_makes_nothing(is_async, key):
    begin(is_async)
    check_key(key, Data(b""))
    use(key, is_async)


@pytest.mark.parametrize(
    "thing",
    [None, 0, 7, 1.5, True, b"z" * 32, VICTIMS_ID, [VICTIMS_KEY], {"$ne": None}, {"$gt": ""}],
    ids=repr,
)
def test_what_is_no_text_is_no_key(thing):
    begin()
    check_key(thing, Data(b""))


@SYNC_AND_ASYNC
@pytest.mark.parametrize("view", range(len(VIEWS)))
@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"=;=;;=",
        b"sessionid",
        b"sessionid=",
        b'sessionid="' + VICTIMS_KEY.encode() + b"\\",
        b"sessionid=" + VICTIMS_KEY.encode() + b"\0",
        b"sessionid=" + b"\xff" * 32,
        b"sessionid=\xed\xa0\x80" * 32,
        b"sessionid=" + KEY.encode(),
        b"SESSIONID=" + VICTIMS_KEY.encode(),
        b"sessionid=" + b"0" * 100_000,
    ],
    ids=lambda header: ascii(header)[:30],
)
def test_a_cookie_header_of_any_bytes_does_no_harm(is_async, view, header):
    begin(is_async)

    Session(Data(bytes([view])), None).request(header)


def test_the_victim_itself_reads_its_session():
    begin()

    assert SessionStore(VICTIMS_KEY).load()["secret"] == SECRET


# Documents

FIELDS = ["payload", "expires_at", "created_at", "seen_at", "revision"]
VALUES = [
    *(None, True, 0, -1, 1.5, float("nan"), "", "text", [], {}, {"$ne": 1}, {"$date": 0}),
    *(Int64(2**63 - 1), Int64(-(2**63)), Decimal128("NaN"), MaxKey(), Regex("(((")),
    *(b"", b"\x01", b"\x02", Binary(b"abc", 4), Binary(b"\x27", 9), DBRef("a", 1)),
    *(DatetimeMS(2**63 - 1), DatetimeMS(-(2**63)), DatetimeMS(PRESENT - 1)),
]


def sealed(body, form=b"\x01", key=None, document_id=ID, created_at=PRESENT):
    return model.seal(form, document_id, created_at, body, key or settings.SECRET_KEY)


WHOLE = sealed(BODY)


def document(payload=WHOLE, **fields):
    return bson.encode({**forging.document_of(payload), **fields})


@SYNC_AND_ASYNC
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_field_of_any_kind_does_no_harm(is_async, field, value):
    use(KEY, is_async, bson.encode({**bson.decode(document()), field: value}))


def test_a_document_of_raw_bytes_does_no_harm():
    # A name twice, and text that is no UTF-8.
    twice = b"\x10revision\0" + struct.pack("<i", 1) + b"\x02revision\0\x02\0\0\0\xff\0"
    use(KEY, 0, struct.pack("<i", len(twice) + 5) + twice + b"\0")


@SYNC_AND_ASYNC
@pytest.mark.parametrize("field", FIELDS)
def test_a_document_without_a_field_does_no_harm(is_async, field):
    fields = bson.decode(document())
    del fields[field]

    use(KEY, is_async, bson.encode(fields))


# Payloads

DEEP = b"[" * 100_000
BODIES = [
    *(b"", b"null", b"[]", b'""', b"\xff", b"{", b"{}", BODY, b'{"a":1}' * 2, b'{"a":NaN}'),
    *(b'{"a":1e999}', b'{"a":' + b"9" * 5000 + b"}", DEEP, b'{"a":' + DEEP, b"{}" + b" " * 5000),
    *(b'{"_auth_user_id":' + b"[" * 500 + b"]" * 500 + b"}", b'{"_auth_user_id":null}'),
    *(b'{"_session_expiry":%s}' % value for value in (b"0", b"-1", b"1e400", b"9" * 400, b"{}")),
    *(b'{"_session_expiry":"%s"}' % value for value in (b"", b"0001-01-01T00:00+14:00")),
    *(b'{"_auth_user_id":"\\ud800"}', b'{"":{"":{"":{}}}}', b'{"\\ud800":1,"\\u0000":2}'),
]


# The engine reads no body of a form that it does not know: of those the short profile has a few.
SEALED = [(form, body) for form in (b"\x01", b"\x02", b"compressed") for body in BODIES]
SEALED += [
    (form, body)
    for form in (b"\x00", b"\x03", b"\xff")
    for body in (BODIES if IS_LONG else (b"", BODY, DEEP))
]


@SYNC_AND_ASYNC
@pytest.mark.parametrize(("form", "body"), SEALED, ids=lambda given: ascii(given)[:30])
def test_a_body_of_any_bytes_does_no_harm_though_it_is_sealed(is_async, form, body):
    if form == b"compressed":
        form, body = b"\x02", zlib.compress(body)

    use(KEY, is_async, document(sealed(body, form)))


FORGED = {
    "nobody's key": sealed(BODY, key="nobody's key"),
    "moved": sealed(BODY, document_id=VICTIMS_ID),
    "moved in time": sealed(BODY, created_at=PRESENT + 1),
    "cut": WHOLE[:-1],
    "cut in the seal": WHOLE[:20],
    "longer": WHOLE + b" ",
    "another form": b"\x02" + WHOLE[1:],
    "altered": WHOLE[:-1] + b"]",
    "no seal": b"\x01" + bytes(32) + BODY,
    "no seal, compressed": b"\x02" + bytes(32) + zlib.compress(BODY),
    "a bomb": b"\x02" + bytes(32) + forging.BOMBS[2],
}


@SYNC_AND_ASYNC
@pytest.mark.parametrize("how", FORGED)
def test_a_forged_payload_is_refused_and_stays(is_async, how):
    use(KEY, is_async, document(FORGED[how]))

    prepare(is_async, document(FORGED[how]))
    store = SessionStore(KEY)
    assert world.do(store, "_get_session") == {}
    assert store.session_key == KEY
    assert len(world.refusals) == 1


@SYNC_AND_ASYNC
def test_the_victims_own_payload_does_not_open_elsewhere(is_async):
    begin(is_async)
    stolen = bson.decode(world.collection.stored[VICTIMS_ID])

    use(KEY, is_async, bson.encode({**stolen, "_id": ID}))


def test_a_bomb_that_nobody_has_sealed_takes_no_memory():
    prepare(0, document(FORGED["a bomb"]))
    tracemalloc.start()
    try:
        assert SessionStore(KEY).load() == {}
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


@SYNC_AND_ASYNC
def test_a_payload_of_an_older_key_opens(is_async):
    prepare(is_async, document(sealed(BODY, key=OLD_KEY)))

    assert world.do(SessionStore(KEY), "load") == json.loads(BODY)
    use(KEY, is_async, document(sealed(BODY, key=OLD_KEY)))


@SYNC_AND_ASYNC
def test_what_has_expired_is_not_read(is_async):
    prepare(is_async, document())
    world.later(3600)

    assert world.do(SessionStore(KEY), "load") == {}
    use(KEY, is_async, document(expires_at=NOW - timedelta(seconds=1)))


# What watches


def test_what_nobody_has_sealed_must_not_be_decompressed():
    begin()

    with pytest.raises(Violation):
        codec.zlib.decompress(zlib.compress(BODY))
