"""The forms 03 and 04 of a payload: by frozen vectors, and by a second implementation."""

import base64
import itertools
import json
import secrets
from pathlib import Path

import pytest
from django.core.signing import BadSignature

from django_mongo_sessions.storage import codec, keyring
from tests.storage import independent

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "encryption.json").read_text())
SECRET, OTHER = b"a" * 31 + b"1", b"a" * 31 + b"2"
COOKIE = "0123456789abcdefghijklmnopqrstuv"
BINDING = b"\x01" + b"i" * 32 + b"c" * 8
BODY = b'{"basket": [1, 2, 3]}'
RING = keyring.read([SECRET, OTHER])


def parts(vector):
    binding = bytes.fromhex(vector["document_id"]) + vector["created_at"].to_bytes(8, "big")
    secret, payload = bytes.fromhex(vector["master_key"]), bytes.fromhex(vector["payload"])
    return secret, payload, binding, vector["session_key"], vector["body"].encode()


def encrypted(body=BODY, binding=BINDING, cookie=COOKIE, key=RING.first, compress_from=False):
    return codec.encrypt(body, binding, cookie, key, compress_from)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_what_was_stored_once_opens_for_good(vector):
    secret, payload, binding, cookie, body = parts(vector)

    opened, is_current = codec.decrypt(payload, binding, cookie, keyring.read([secret]))
    assert opened == body
    assert is_current is (payload[:1] == codec.BOUND)
    assert independent.opened(secret, payload, binding, cookie) == body


@pytest.mark.parametrize("cookie", [COOKIE, ""])
@pytest.mark.parametrize("compress_from", [0, False])
def test_what_is_stored_now_is_what_the_format_says(cookie, compress_from):
    for size in (0, 1, 251, 252, 5000):
        body = b"x" * size
        payload = encrypted(body, cookie=cookie, compress_from=compress_from)

        assert independent.opened(SECRET, payload, BINDING, cookie) == body
        assert codec.decrypt(payload, BINDING, cookie, RING) == (body, bool(cookie))


def test_only_the_first_key_is_the_current_one():
    payload = encrypted(key=RING.keys[1])

    assert codec.decrypt(payload, BINDING, COOKIE, RING) == (BODY, False)


def test_no_payload_is_like_another():
    assert len({encrypted()[1 + 4 :] for _ in range(50)}) == 50


@pytest.mark.parametrize("cookie", [COOKIE, ""])
def test_no_bit_can_be_changed(cookie):
    payload = encrypted(cookie=cookie)

    for place, bit in itertools.product(range(len(payload)), range(8)):
        changed = bytearray(payload)
        changed[place] ^= 1 << bit
        if codec.is_encrypted(changed):
            with pytest.raises(BadSignature):
                codec.decrypt(bytes(changed), BINDING, cookie, RING)


def test_nothing_can_be_cut_off_or_added():
    payload = encrypted()

    for changed in [payload + b"\0", *(payload[:length] for length in range(1, len(payload)))]:
        with pytest.raises(BadSignature):
            codec.decrypt(changed, BINDING, COOKIE, RING)


def test_a_payload_opens_for_its_document_its_moment_its_cookie_and_its_key_alone():
    bindings = [document + moment for document in (b"d" * 33, b"e" * 33) for moment in _MOMENTS]
    cases = list(itertools.product(bindings, (COOKIE, COOKIE[::-1]), RING.keys))

    for binding, cookie, key in cases:
        payload = encrypted(binding=binding, cookie=cookie, key=key)
        for other in cases:
            ring = keyring.Ring([other[2]])
            if other == (binding, cookie, key):
                assert codec.decrypt(payload, *other[:2], ring)[0] == BODY
            else:
                with pytest.raises(BadSignature):
                    codec.decrypt(payload, *other[:2], ring)


_MOMENTS = [b"m" * 8, b"n" * 8]


def test_two_keys_may_have_the_same_id():
    ours, other = (keyring.MasterKey(secret) for secret in (SECRET, OTHER))
    other.id = ours.id
    payloads = [encrypted(key=key) for key in (ours, other)]

    for ring in ([ours, other], [other, ours]):
        for payload, key in zip(payloads, (ours, other), strict=True):
            opened = codec.decrypt(payload, BINDING, COOKIE, keyring.Ring(ring))
            assert opened == (BODY, key is ring[0])
    with pytest.raises(BadSignature, match="commitment"):
        codec.decrypt(payloads[0], BINDING, COOKIE, keyring.Ring([other]))


def test_the_site_s_key_does_not_open_what_is_bound_to_a_cookie():
    with pytest.raises(BadSignature, match="commitment"):
        codec.decrypt(encrypted(), BINDING, "", RING)


def test_a_key_that_is_missing_is_named():
    missing = keyring.MasterKey(secrets.token_bytes(32))

    with pytest.raises(codec.UnknownKey, match=missing.id.hex()):
        codec.decrypt(encrypted(key=missing), BINDING, COOKIE, RING)


def test_the_length_tells_only_the_magnitude_of_the_body():
    lengths = [len(encrypted(b"x" * size)) - 77 for size in range(1, 6000, 7)]

    assert lengths[0] == 256
    assert len(set(lengths)) < 100
    for size, length in zip(range(1, 6000, 7), lengths, strict=True):
        assert size + 5 <= length <= max(256, (size + 5) * 1.12)


def test_the_largest_body_is_stored_with_room_to_spare():
    assert codec._padded(codec.MAX_BODY + 5) + 77 < 15.5 * 2**20


def test_a_bomb_does_not_explode():
    payload = encrypted(b" " * (codec.MAX_BODY + 1), compress_from=0)

    with pytest.raises(ValueError, match="15,000,000"):
        codec.decrypt(payload, BINDING, COOKIE, RING)


@pytest.mark.parametrize(("cookie", "name"), [(COOKIE, "bound to its cookie"), ("", "encrypted")])
def test_it_can_be_described_without_a_key(cookie, name):
    payload = encrypted(cookie=cookie)

    shown = codec.describe(payload)
    assert name in shown["form_name"]
    assert shown["key_id"] == RING.first.id.hex()
    assert shown["bytes"] == 256 + 16
    assert shown["text"] is None


def test_neither_a_value_nor_a_key_is_in_a_payload():
    word = b"a word that nobody may read"
    payload = encrypted(word)

    assert word not in payload
    assert base64.b64encode(word)[:-4] not in payload
    assert SECRET not in payload
    assert COOKIE.encode() not in payload
