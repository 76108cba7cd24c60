"""The keys that a site may set, and where a process gets them."""

import base64
import sys
import threading
from pathlib import Path

import cryptography
import pytest
from django.core.exceptions import ImproperlyConfigured
from pymongo.errors import PyMongoError

from django_mongo_sessions.conf import conf
from django_mongo_sessions.exceptions import KeysUnavailable, ServerUnavailable
from django_mongo_sessions.storage import keyring

SECRET, OTHER = bytes(range(32)), bytes(range(32, 64))
HEX, BASE64 = SECRET.hex(), base64.b64encode(b"\xff" * 31 + b"\xfe").decode()


def ids(*secrets):
    return [keyring.MasterKey(secret).id.hex() for secret in secrets]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only if a test says so."""
    now = [1000.0]
    monkeypatch.setattr(keyring.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def source(settings):
    """`source(function)` is the source of what the function returns."""

    def source(function):
        settings.MONGO_SESSIONS = {"ENCRYPTION_KEYS": function}
        return keyring.source()

    return source


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        HEX,
        HEX.upper(),
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
    ],
)
def test_a_key_may_be_written_in_several_ways(given):
    assert keyring.read([given]).ids() == ids(SECRET)


@pytest.mark.parametrize("content", [SECRET, HEX.encode() + b"\n", base64.b64encode(SECRET)])
def test_a_key_may_be_in_a_file(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)

    assert keyring.read((path,)).ids() == ids(SECRET)


def test_both_alphabets_of_base64_are_read():
    urlsafe = BASE64.replace("/", "_")

    assert "_" in urlsafe
    assert keyring.read([BASE64]).ids() == keyring.read([urlsafe]).ids()


@pytest.mark.parametrize(
    "given",
    ["a passphrase that is long enough", "", "é" * 32, SECRET[:31], None, 1 << 300, HEX[:-1] + "x"],
)
def test_nothing_else_is_a_key(given):
    with pytest.raises(ImproperlyConfigured, match=r"\[1\] is not a key") as raised:
        keyring.read([SECRET, given])

    assert not given or str(given) not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "is NoneType"),
        ([], "an empty list"),
        ((), "an empty tuple"),
        ("abc", "is str"),
        ([b"a" * 32], "one byte"),
        ([SECRET, HEX], "twice"),
    ],
)
def test_a_ring_that_is_none_is_refused(given, problem):
    with pytest.raises(ImproperlyConfigured, match=problem):
        keyring.read(given)


@pytest.mark.parametrize("given", [HEX, SECRET])
@pytest.mark.parametrize("signing", [HEX, SECRET, SECRET.decode()])
def test_the_secret_key_is_not_a_key_for_this(settings, given, signing):
    settings.SECRET_KEY = signing

    with pytest.raises(ImproperlyConfigured, match="is SECRET_KEY") as raised:
        keyring.read([given])
    assert HEX not in str(raised.value)


def test_a_file_that_cannot_be_read_may_be_there_later(tmp_path):
    with pytest.raises(KeysUnavailable, match="No such file"):
        keyring.read([tmp_path / "key"])


def test_nor_does_the_error_say_a_key_that_was_taken_for_a_path():
    text, _ = keyring.new_key()

    with pytest.raises(KeysUnavailable, match="its path is itself a key") as raised:
        keyring.read([Path(text)])
    assert text not in str(raised.value)
    with pytest.raises(KeysUnavailable, match="null byte"):
        keyring.read([Path("a\0b")])


def test_a_file_with_a_passphrase_has_no_key(tmp_path):
    path = tmp_path / "key"
    path.write_text("correct horse battery staple 31\n")

    with pytest.raises(ImproperlyConfigured, match="is not a key"):
        keyring.read([path])


def test_no_repr_contains_a_key():
    ring = keyring.read([SECRET, OTHER])

    assert repr(ring) == f"<Ring {', '.join(ids(SECRET, OTHER))}>"
    assert repr(ring.first) == f"<MasterKey {ids(SECRET)[0]}>"


def test_a_new_key_is_a_key():
    text, key_id = keyring.new_key()

    assert keyring.read([text]).ids() == [key_id]
    assert text != keyring.new_key()[0]


@pytest.fixture
def fresh_cipher():
    """Let the package be looked for again, then and later."""
    keyring.cipher.cache_clear()
    yield
    keyring.cipher.cache_clear()


def test_without_the_package_there_is_no_ring(monkeypatch, fresh_cipher):
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(ImproperlyConfigured, match=r"pip install"):
        keyring.read([SECRET])


def test_nor_with_an_old_one(monkeypatch, fresh_cipher):
    monkeypatch.setattr(cryptography, "__version__", "41.0.7")

    with pytest.raises(ImproperlyConfigured, match=r"42 or later, and 41\.0\.7"):
        keyring.read([SECRET])


# Where a process gets them


def test_a_source_is_asked_once(source):
    calls = []
    asked = source(lambda: calls.append(1) or [SECRET])

    assert asked.get() is asked.get()
    assert calls == [1]
    assert keyring.source() is asked


def test_after_a_fork_it_is_asked_anew(source, monkeypatch):
    asked = source(lambda: [SECRET])

    monkeypatch.setattr(keyring.os, "getpid", lambda: -1)
    assert keyring.source() is not asked


def test_a_dotted_path_may_name_it(settings):
    settings.MONGO_SESSIONS = {"ENCRYPTION_KEYS": f"{__name__}.keys_of_a_vault"}

    assert keyring.source().get().ids() == ids(OTHER)


def keys_of_a_vault():
    return [OTHER]


def test_no_lock_is_held_while_the_function_runs(source):
    """Two threads come at the same moment; each waits inside of the function for the other."""
    both = threading.Barrier(2, timeout=10)
    asked = source(lambda: both.wait() >= 0 and [SECRET])
    found = []
    threads = [threading.Thread(target=lambda: found.append(asked.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [ring.ids() for ring in found] == [ids(SECRET)] * 2


def test_a_source_that_fails_is_tried_again_once_a_second(source, clock):
    calls = []

    def fail():
        calls.append(1)
        raise LookupError(HEX)

    asked = source(fail)
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="raised LookupError") as raised:
            asked.get()
        assert HEX not in str(raised.value)
    assert calls == [1]
    clock[0] += 1
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            asked.get()
    assert calls == [1, 1]


def test_a_doubt_that_another_thread_takes_back_is_raised_whole(source):
    class Hurried(keyring.Source):
        """Another thread gets the keys once this one has looked."""

        looked = 0

        @property
        def _doubt(self):
            self.looked += 1
            return KeysUnavailable("a second ago") if self.looked == 1 else None

        @_doubt.setter
        def _doubt(self, value):
            self.looked = 0

    hurried = Hurried(list)
    hurried._next = float("inf")

    with pytest.raises(KeysUnavailable, match="a second ago"):
        hurried.get()


def test_while_one_request_tries_again_the_others_do_not_wait(source, clock):
    calls = []

    def fail():
        calls.append(1)
        if len(calls) == 2:
            with pytest.raises(KeysUnavailable):
                asked.get()
        raise LookupError

    asked = source(fail)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            asked.get()
        clock[0] += 1

    assert calls == [1, 1]


def test_nonsense_of_a_source_is_said_without_its_value(source, clock):
    asked = source(lambda: {"key": HEX})

    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="is dict") as raised:
            asked.get()
        assert HEX not in str(raised.value)


def test_a_source_is_asked_again_for_a_key_that_is_missing_once_a_minute(source, clock):
    calls, held = [], [SECRET]
    asked = source(lambda: calls.append(1) or list(held))
    ring = asked.get()

    assert asked.get_newer(ring).ids() == ids(SECRET)
    held.append(OTHER)
    ring = asked.ring
    assert asked.get_newer(ring) is ring
    assert len(calls) == 2
    clock[0] += 60
    newer = asked.get_newer(ring)
    assert newer.ids() == ids(SECRET, OTHER)
    assert asked.get_newer(ring) is newer
    assert asked.get() is newer
    assert len(calls) == 3


def test_a_missing_key_is_in_doubt_until_the_source_returns(source, clock):
    calls = []

    def keys():
        calls.append(1)
        if len(calls) == 2:
            with pytest.raises(KeysUnavailable, match="are being asked for"):
                asked.get_newer(ring)
            raise LookupError
        return [SECRET]

    asked = source(keys)
    ring = asked.get()
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            asked.get_newer(ring)
    assert len(calls) == 2
    assert asked.get() is ring  # for what it opens, there is no doubt
    clock[0] += 1
    assert asked.get_newer(ring).ids() == ids(SECRET)


def test_keys_that_cannot_be_had_are_an_outage():
    assert issubclass(KeysUnavailable, ServerUnavailable)
    assert issubclass(KeysUnavailable, PyMongoError)


def test_a_path_is_read_again(settings, tmp_path, clock):
    path = tmp_path / "key"
    path.write_text(HEX)
    settings.MONGO_SESSIONS = {"ENCRYPTION_KEYS": [Path(path)]}
    ring = keyring.source().get()
    path.write_text(OTHER.hex())

    assert keyring.source().get_newer(ring).ids() == ids(OTHER)
    assert conf.encryption == "only"
