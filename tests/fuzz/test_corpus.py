"""Inputs that the fuzzer has kept, and inputs written by hand, without the fuzzer."""

import json
import struct
import tracemalloc
import zlib
from datetime import timedelta
from importlib import import_module

import bson
import pytest
from bson import Binary, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, Regex
from bson.errors import InvalidBSON
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import DuplicateKeyError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import mapping
from django_mongo_sessions.engine.session import TrackedSession
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import codec, documents
from tests.conftest import IS_LONG
from tests.fuzz import __main__ as fuzz
from tests.fuzz import forging, model, values
from tests.fuzz.cookies import check_key
from tests.fuzz.data import Data
from tests.fuzz.guards import OLD_KEY, Violation, prepared
from tests.fuzz.session import Session
from tests.fuzz.steps import STEPS, VIEWS
from tests.fuzz.world import ID, KEY, NOW, SECRET, VICTIMS_ID, VICTIMS_KEY, world

CORPUS = [(target, path) for target in fuzz.TARGETS for path in (fuzz.CORPUS / target).glob("*")]
PRESENT = model.milliseconds(NOW)
BODY = b'{"a":1}'


def in_turn(cases, first):
    """Return these cases in both forms; in the short profile, in one, by turns from `first` on."""
    return [
        (is_async, case)
        for index, case in enumerate(cases, first)
        for is_async in ([0, 1] if IS_LONG else [index % 2])
    ]


SYNC_AND_ASYNC = pytest.mark.parametrize("is_async", [0, 1], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _world():
    with prepared():
        yield


@pytest.mark.untraced
@pytest.mark.skipif(not CORPUS, reason="The sdist does not have the corpus.")
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_corpus_does_no_harm(subtests, target):
    for path in sorted((fuzz.CORPUS / target).glob("*")):
        with subtests.test(path.name):
            import_module(f"tests.fuzz.{target}").check(path.read_bytes())


@pytest.mark.untraced
def test_nor_does_it_if_sessions_are_encrypted(monkeypatch):
    made, encrypt = [], codec.encrypt
    monkeypatch.setattr(codec, "encrypt", lambda *args: made.append(args) or encrypt(*args))
    monkeypatch.setattr(world, "victims", b"")
    monkeypatch.setattr(world.collection, "stored", {})
    monkeypatch.setitem(world.options, "ENCRYPTION_KEYS", [model.MASTER_KEY])
    monkeypatch.setitem(world.options, "ENCRYPTION", "transition")

    chosen = CORPUS if IS_LONG else CORPUS[::3]
    for target, path in chosen:
        import_module(f"tests.fuzz.{target}").check(path.read_bytes())

    assert len(made) >= len(chosen) / 2


@pytest.mark.parametrize("target", fuzz.TARGETS)
@pytest.mark.parametrize("raw", [b"", b"\xff" * 512, bytes(range(256))])
def test_any_bytes_can_be_an_input(target, raw):
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


WAYS = [[], ["look"], ["expire"]]
JOINED = 64  # chooses that each operation goes out with one of the victim's


def begin(is_async=0, chosen=0):
    """Begin with plain settings or those that are chosen, sync or async."""
    world.begin(Data(bytes([is_async, chosen])))


def use(key, is_async, document=None, chosen=0, thoroughly=IS_LONG):
    """Do each step and each view on a session: at once, and after it was read, and changed.

    If not thoroughly, each step is done in one of these ways, which depends on the document.
    """
    turn = zlib.crc32(document or ascii(key).encode())
    for index, step in enumerate(STEPS, turn):
        for before in WAYS if thoroughly else [WAYS[index % len(WAYS)]]:
            prepare(is_async, document, chosen)
            do(Session(Data(b""), key), *before, step, "save", "load")
    for view in range(len(VIEWS)):
        prepare(is_async, document, chosen)
        Session(Data(bytes([view])), None).request(b"sessionid=" + key.encode("utf-8", "replace"))


def do(session, *names):
    for name in names:
        session.step(name)


def prepare(is_async, document, chosen=0):
    begin(is_async, chosen)
    if document is not None:
        world.collection.stored[ID] = document


@SYNC_AND_ASYNC
@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:30])
def test_a_cookie_that_cannot_be_a_key_reads_nothing_and_creates_nothing(is_async, key):
    begin(is_async)
    check_key(key, Data(b""))
    use(key, is_async)


@pytest.mark.parametrize(
    "thing",
    [None, 0, 7, 1.5, True, b"z" * 32, VICTIMS_ID, [VICTIMS_KEY], {"$ne": None}, {"$gt": ""}],
    ids=repr,
)
def test_a_key_that_is_not_text_is_not_a_key(thing):
    begin()
    check_key(thing, Data(b""))


@pytest.mark.untraced
@SYNC_AND_ASYNC
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
def test_a_cookie_header_of_any_bytes_does_no_harm(subtests, is_async, header):
    for view in range(len(VIEWS)):
        with subtests.test(view=view):
            begin(is_async)
            Session(Data(bytes([view])), None).request(header)


def test_the_victims_own_cookie_opens_the_session():
    begin()

    assert SessionStore(VICTIMS_KEY).load()["secret"] == SECRET


# Documents

FIELDS = ["payload", "expires_at", "created_at", "seen_at", "revision", "write_id"]
NO_UUID = Binary(b"abc", 4)  # which PyMongo cannot decode with the options of a shared client
NEEDS_BROKEN_UUIDS = pytest.mark.skipif(
    not values.holds(NO_UUID), reason="this PyMongo decodes no broken UUID, with whatever options"
)
VALUES = [
    *(None, True, 0, -1, 1.5, float("nan"), "", "text", [], {}, {"$ne": 1}, {"$date": 0}),
    *(Int64(2**63 - 1), Int64(-(2**63)), Decimal128("NaN"), MaxKey(), Regex("(((")),
    *(b"", b"\x01", b"\x02", Binary(b"\x27", 9), DBRef("a", 1)),
    *(DatetimeMS(2**63 - 1), DatetimeMS(-(2**63)), DatetimeMS(PRESENT - 1)),
    *([NO_UUID] if values.holds(NO_UUID) else []),
    *(Int64(2**62), Int64(2**62 + 1), -2, -1.0, Decimal128("-1"), [-1]),
    *(bytes(11), bytes(12), bytes(13), Binary(bytes(12), 5), "t" * 12),
]


def sealed(body, form=b"\x01", key=None, document_id=ID, created_at=PRESENT):
    return model.seal(form, document_id, created_at, body, key or settings.SECRET_KEY)


WHOLE = sealed(BODY)


def document(payload=WHOLE, **fields):
    return bson.encode({**forging.document_of(payload), **fields})


WHOLE_DOCUMENT = document()


def marker(payload=b"", **fields):
    return bson.encode({**forging.marker_of(payload), **fields})


@pytest.mark.untraced
@pytest.mark.parametrize(("index", "field"), list(enumerate(FIELDS)))
def test_a_field_of_any_kind_does_no_harm(subtests, index, field):
    for is_async, value in in_turn(VALUES, index):
        with subtests.test(is_async=is_async, value=value):
            use(KEY, is_async, bson.encode({**bson.decode(document()), field: value}))


def test_a_document_of_raw_bytes_does_no_harm():
    # A name twice, and text that is no UTF-8.
    twice = b"\x10revision\0" + struct.pack("<i", 1) + b"\x02revision\0\x02\0\0\0\xff\0"
    use(KEY, 0, struct.pack("<i", len(twice) + 5) + twice + b"\0")


@pytest.mark.untraced
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
SEALED = {
    **dict.fromkeys([b"\x01", b"\x02", b"compressed"], BODIES),
    **dict.fromkeys([b"\x00", b"\x03", b"\xff"], BODIES if IS_LONG else [b"", BODY, DEEP]),
}


@pytest.mark.untraced
@pytest.mark.parametrize(("index", "form"), list(enumerate(SEALED)))
def test_a_sealed_body_of_any_bytes_does_no_harm(subtests, index, form):
    for is_async, body in in_turn(SEALED[form], index):
        with subtests.test(is_async=is_async, body=ascii(body)[:30]):
            if form == b"compressed":
                payload = sealed(zlib.compress(body), b"\x02")
            else:
                payload = sealed(body, form)
            use(KEY, is_async, document(payload))


FORGED = {
    "another site's key": sealed(BODY, key="another site's key"),
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


def test_an_unsealed_zip_bomb_uses_no_memory():
    assert memory_of(FORGED["a bomb"]) < 2 * 2**20


def test_a_sealed_zip_bomb_uses_no_more_memory_than_a_session_may():
    assert memory_of(sealed(zlib.compress(b"{}" + b" " * 2**26), model.DEFLATED)) < 40 * 2**20


def memory_of(payload):
    """Return how many bytes of memory refusing a payload uses."""
    prepare(0, document(payload))
    store = SessionStore(KEY)
    tracemalloc.start()
    try:
        assert store.load() == {}
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert world.refusals
    return most


@SYNC_AND_ASYNC
@pytest.mark.parametrize("excess", [0, 1])
def test_a_body_of_more_bytes_than_may_be_stored_is_refused(is_async, excess):
    body = b"{}" + b" " * (model.LARGEST_BODY - 2 + excess)
    prepare(is_async, document(sealed(zlib.compress(body), model.DEFLATED)))

    do(Session(Data(b""), KEY), "load")
    assert len(world.refusals) == excess


@SYNC_AND_ASYNC
def test_a_payload_of_an_older_key_opens(is_async):
    prepare(is_async, document(sealed(BODY, key=OLD_KEY)))

    assert world.do(SessionStore(KEY), "load") == json.loads(BODY)
    use(KEY, is_async, document(sealed(BODY, key=OLD_KEY)))


@SYNC_AND_ASYNC
def test_an_expired_session_is_not_read(is_async):
    prepare(is_async, document())
    world.later(3600)

    assert world.do(SessionStore(KEY), "load") == {}
    use(KEY, is_async, document(expires_at=NOW - timedelta(seconds=1)))


# Markers

ANOTHER_ID = model.id_of("0" * 32)
TO_THE_VICTIM = sealed(VICTIMS_ID, model.MOVED)
FORGED_POINTERS = {
    "another site's key": sealed(VICTIMS_ID, model.MOVED, key="another site's key"),
    "of another document": sealed(VICTIMS_ID, model.MOVED, document_id=ANOTHER_ID),
    "of the victim's document": sealed(VICTIMS_ID, model.MOVED, document_id=VICTIMS_ID),
    "moved in time": sealed(VICTIMS_ID, model.MOVED, created_at=PRESENT + 1),
    "another target": sealed(ID, model.MOVED)[:33] + VICTIMS_ID,
    "another form": model.MOVED + sealed(VICTIMS_ID)[1:],
    "a session's form": sealed(VICTIMS_ID),
    "cut": TO_THE_VICTIM[:-1],
    "longer": TO_THE_VICTIM + b" ",
    "no seal": model.MOVED + bytes(32) + VICTIMS_ID,
    "no form": VICTIMS_ID,
    "text": VICTIMS_ID.hex(),
    "nothing": b"",
}


@pytest.mark.untraced
@SYNC_AND_ASYNC
@pytest.mark.parametrize("verb", ["delete", "flush"])
@pytest.mark.parametrize("how", FORGED_POINTERS)
def test_a_forged_pointer_leads_nowhere(is_async, verb, how):
    use(KEY, is_async, marker(FORGED_POINTERS[how]))

    prepare(is_async, marker(FORGED_POINTERS[how]))
    world.do(SessionStore(KEY), verb)
    world.check_victim()
    assert world.held(ID).is_marker


@SYNC_AND_ASYNC
@pytest.mark.parametrize("verb", ["delete", "flush"])
@pytest.mark.parametrize("key", [settings.SECRET_KEY, OLD_KEY])
def test_a_pointer_leads_a_sign_out_to_where_the_session_has_moved(is_async, verb, key):
    raw = marker(sealed(VICTIMS_ID, model.MOVED, key=key))
    use(KEY, is_async, raw)

    prepare(is_async, raw)
    world.do(SessionStore(KEY), verb)
    assert world.collection.stored == {ID: raw}


@SYNC_AND_ASYNC
def test_a_sign_out_follows_a_session_that_has_moved_twice(is_async):
    prepare(is_async, document())
    do(Session(Data(b""), KEY), "load", "cycle_key", "cycle_key")
    do(Session(Data(b""), KEY), "delete")

    assert sum(not world.held(held).is_marker for held in world.collection.stored) == 1


@SYNC_AND_ASYNC
@pytest.mark.parametrize("last", ["flush", "delete", "save", "load", "cycle_key"])
def test_a_session_that_has_moved_can_still_be_used(is_async, last):
    prepare(is_async, document())
    do(Session(Data(b""), KEY), "expire", "cycle_key", "set", "save", "cycle_key", last, "look")


@SYNC_AND_ASYNC
def test_pointers_in_a_circle_lead_nowhere(is_async):
    use(KEY, is_async, marker(sealed(ID, model.MOVED)))


@SYNC_AND_ASYNC
@pytest.mark.parametrize("revision", [0, 7, 1.5, True, None, "-1"], ids=repr)
def test_a_pointer_that_is_not_a_marker_is_deleted_and_not_followed(is_async, revision):
    use(KEY, is_async, marker(TO_THE_VICTIM, revision=revision))

    prepare(is_async, marker(TO_THE_VICTIM, revision=revision))
    world.do(SessionStore(KEY), "delete")
    world.check_victim()
    assert world.collection.stored.keys() == {VICTIMS_ID}


@SYNC_AND_ASYNC
@pytest.mark.parametrize("revision", [-1, Int64(-1), -1.0], ids=repr)
@pytest.mark.parametrize("payload", [b"", TO_THE_VICTIM, WHOLE], ids=["deleted", "moved", "whole"])
def test_a_marker_is_not_a_session(is_async, revision, payload):
    raw = document(payload, revision=revision)
    use(KEY, is_async, raw)

    prepare(is_async, raw)
    assert not world.do(SessionStore(KEY), "exists", KEY)
    store = SessionStore(KEY)
    assert world.do(store, "load") == {}
    assert store.session_key is None
    with pytest.raises(CreateError):
        world.do(SessionStore(KEY), "save", True)
    store = SessionStore(KEY)
    store._session_cache = {"a": 1}
    with pytest.raises(UpdateError):
        world.do(store, "save")
    assert world.collection.stored[ID] == raw
    assert not world.refusals


@pytest.mark.untraced
@pytest.mark.parametrize("field", FIELDS)
def test_a_marker_with_a_field_of_any_kind_does_no_harm(subtests, field):
    for value in VALUES:
        with subtests.test(value=value):
            use(KEY, 0, bson.encode({**forging.marker_of(TO_THE_VICTIM), field: value}))


@NEEDS_BROKEN_UUIDS
@SYNC_AND_ASYNC
@pytest.mark.parametrize("field", ["a", *FIELDS])
def test_a_document_that_cannot_be_decoded_does_no_harm(is_async, field):
    use(KEY, is_async, bson.encode({**forging.marker_of(TO_THE_VICTIM), field: NO_UUID}))
    use(KEY, is_async, bson.encode({**forging.marker_of(b""), field: NO_UUID}))
    use(KEY, is_async, document(a=NO_UUID))
    use(KEY, is_async, document(a=NO_UUID), JOINED)


@NEEDS_BROKEN_UUIDS
def test_only_the_projected_fields_are_decoded():
    prepare(0, marker(TO_THE_VICTIM, a=NO_UUID))
    with pytest.raises(InvalidBSON):
        world.collection.find_one({"_id": ID})

    world.do(SessionStore(KEY), "delete")
    assert world.collection.stored.keys() == {ID}


# Other requests


def race(replacement, *names, document=WHOLE_DOCUMENT, is_async=0):
    """Do steps; before the last one another request replaces the document, or deletes it."""
    prepare(is_async, document)
    session = Session(Data(b""), KEY, lambda data: replacement)
    do(session, *names[:-1])
    session._another_request()
    do(session, names[-1])


@pytest.mark.untraced
@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    "replacement",
    [
        document(sealed(b'{"b":2}')),
        document(sealed(b'{"b":2}'), revision=8),
        document(FORGED["altered"]),
        marker(),
        marker(TO_THE_VICTIM),
        None,
    ],
    ids=["a session", "the next revision", "forged", "deleted", "moved", "removed"],
)
def test_another_request_loses_nothing(subtests, is_async, replacement):
    for last in STEPS:
        with subtests.test(last=last):
            race(replacement, "expire", last, is_async=is_async)
            race(replacement, "expire", "cycle_key", last, is_async=is_async)


def test_the_write_id_of_another_document_affects_only_this_session():
    fooling = document(write_id=bson.decode(WHOLE_DOCUMENT)["write_id"], revision=2**63 - 1)
    for last in STEPS:
        race(fooling, "expire", last)


# The collection


@pytest.mark.parametrize("revision", [-1, Int64(-1), -1.0, Decimal128("-1"), [7, -1]], ids=repr)
def test_a_revision_equal_to_a_markers_is_not_deleted(revision):
    assert deleted(document(revision=revision)) == 0


@pytest.mark.parametrize("revision", [0, 1, True, None, "-1", Decimal128("sNaN"), []], ids=repr)
def test_a_revision_unlike_a_markers_is_deleted(revision):
    assert deleted(document(revision=revision)) == 1


def test_a_document_without_a_revision_is_deleted():
    fields = bson.decode(document())
    del fields["revision"]

    assert deleted(bson.encode(fields)) == 1


def deleted(document):
    prepare(0, document)
    wanted = {"_id": ID, "revision": {"$ne": -1}}
    return world.collection.delete_one(wanted).deleted_count


def test_a_document_is_replaced_if_it_matches_and_otherwise_inserted_by_an_upsert():
    prepare(0, document())
    stored = bson.decode(world.collection.stored[ID])
    absent, another = {"_id": ID, "write_id": bytes(12)}, {"_id": ID, "a": 1}
    replace = world.collection.replace_one

    assert replace(absent, another).matched_count == 0
    with pytest.raises(DuplicateKeyError):
        replace(absent, another, upsert=True)
    assert bson.decode(world.collection.stored[ID]) == stored
    assert replace({"_id": ID, "write_id": stored["write_id"]}, another).matched_count == 1
    assert bson.decode(world.collection.stored.pop(ID)) == another
    assert replace({"_id": ID}, another, upsert=True).matched_count == 0
    assert bson.decode(world.collection.stored[ID]) == another


# What watches

FAULTS = {
    "an unsealed pointer is followed": (mapping, "target", lambda held: held["payload"][33:]),
    "no pointer is followed": (mapping, "target", lambda held: None),
    "a marker is read": (documents, "is_marker", lambda held: False),
    "a marker is deleted": (documents, "not_marker", lambda document_id: {"_id": document_id}),
    "any write is replaced": (
        documents,
        "at_write",
        lambda document_id, write_id: {"_id": document_id},
    ),
    "nothing is merged": (TrackedSession, "_merged", lambda self, old, new, ours: ours),
    "nothing is deleted": (
        operations,
        "_delete",
        lambda wanted: operations.exists(wanted["_id"], NOW),
    ),
    "any revision opens": (documents, "_MAX_REVISION", 2**63),
    "no identity is new": (documents, "new_write_id", lambda: bytes(12)),
}


@pytest.mark.untraced
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_engine_is_found(monkeypatch, fault):
    use_all()
    monkeypatch.setattr(*FAULTS[fault])

    with pytest.raises((AssertionError, Violation)):
        use_all()


def use_all():
    pointers = map(FORGED_POINTERS.get, ["another site's key", "another target", "no seal"])
    for raw in [*map(marker, [*pointers, TO_THE_VICTIM]), document(revision=2**62 + 1)]:
        use(KEY, 0, raw, thoroughly=True)
    for last in ("save", "cycle_key"):
        race(document(sealed(b'{"b":2}')), "expire", last)


def test_an_unsealed_payload_must_not_be_decompressed():
    begin()

    with pytest.raises(Violation):
        codec.zlib.decompressobj().decompress(zlib.compress(BODY), 100)
