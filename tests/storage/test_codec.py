import pickle
import secrets
import tracemalloc
import zlib
from datetime import datetime, timezone

import pytest
from django.contrib.sessions.serializers import JSONSerializer
from django.core.signing import BadSignature
from django.utils.crypto import salted_hmac

from django_mongo_sessions.storage import codec, documents

BINDING = b"\x01" + b"i" * 32 + b"c" * 8


class PickleSerializer:
    def dumps(self, data):
        return pickle.dumps(data)

    def loads(self, body):
        return pickle.loads(body)


def sealed(body, key="key", binding=BINDING, compress_from=1024):
    return codec.seal(body, binding, key, compress_from)


def opened(payload, keys=("key",), binding=BINDING):
    return codec.unseal(payload, binding, list(keys))


@pytest.mark.parametrize("serializer", [JSONSerializer, PickleSerializer])
def test_a_dumped_session_can_be_loaded(serializer):
    data = {"book": "Sherlock Holmes", "pages": [1, None, {"a": 2.5}]}

    assert codec.load(serializer, codec.dump(serializer, data)) == data


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"fine": 1, "cart": {1, 2}}, TypeError),
        ({"fine": 1, ("cart",): 1}, TypeError),
        ({"fine": 1, "cart": pytest}, TypeError),
    ],
)
def test_a_value_that_cannot_be_serialized_is_named_by_its_session_key(data, error):
    with pytest.raises(error, match="JSONSerializer cannot store session key .*cart"):
        codec.dump(JSONSerializer, data)


def test_a_circular_value_raises_value_error():
    data = {"loop": []}
    data["loop"].append(data["loop"])

    with pytest.raises(ValueError, match="session key 'loop'"):
        codec.dump(JSONSerializer, data)


def test_an_error_that_no_single_key_causes_is_passed_on():
    class Whole(PickleSerializer):
        def dumps(self, data):
            if len(data) > 1:
                raise MemoryError
            return super().dumps(data)

    with pytest.raises(MemoryError):
        codec.dump(Whole, {"a": 1, "b": 2})


@pytest.mark.parametrize("body", [b"", b"\xff", b"[1]", b"null"])
def test_a_body_that_is_not_a_dict_is_refused(body):
    with pytest.raises(ValueError, match="body"):
        codec.load(JSONSerializer, body)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 100_000])
def test_a_sealed_body_opens(size):
    body = b"x" * size

    assert opened(sealed(body)) == (body, True)


def test_large_bodies_are_compressed_and_small_or_random_ones_are_not():
    assert sealed(b"x" * 1023)[:1] == codec.PLAIN
    assert sealed(b"x" * 1024)[:1] == codec.DEFLATED
    assert len(sealed(b"x" * 100_000)) < 1000
    assert sealed(secrets.token_bytes(2000))[:1] == codec.PLAIN


@pytest.mark.parametrize(
    ("compress_from", "form"), [(0, codec.DEFLATED), (101, codec.PLAIN), (False, codec.PLAIN)]
)
def test_a_body_is_compressed_from_a_size_on_or_never(compress_from, form):
    payload = sealed(b"x" * 100, compress_from=compress_from)

    assert payload[:1] == form
    assert opened(payload) == (b"x" * 100, True)


@pytest.mark.parametrize("key", ["a key", b"a key in bytes"])
def test_the_seal_is_made_with_djangos_salted_hmac(key):
    payload = sealed(b"body", key, b"binding")

    signed = b"\x01" + b"binding" + b"body"
    seal = salted_hmac("django_mongo_sessions.codec", signed, secret=key, algorithm="sha256")
    assert payload == b"\x01" + seal.digest() + b"body"


@pytest.mark.parametrize("body", [b'{"a":1}', b"x" * 5000])
def test_no_byte_of_a_payload_can_be_altered_or_cut(body):
    payload = sealed(body)

    for position in range(len(payload)):
        altered = bytearray(payload)
        altered[position] ^= 1
        with pytest.raises(BadSignature):
            opened(bytes(altered))
        with pytest.raises(BadSignature):
            opened(payload[:position])
    with pytest.raises(BadSignature):
        opened(payload + b"x")


def test_a_payload_opens_only_for_its_own_document():
    payload = sealed(b"{}")

    with pytest.raises(BadSignature):
        opened(payload, binding=BINDING[:-1] + b"x")


def test_an_unknown_form_is_refused_even_if_its_seal_is_valid():
    form, body = b"\x7f", b"{}"
    payload = form + codec._mac(form, BINDING, body, "key") + body

    with pytest.raises(ValueError, match="form 7f is unknown"):
        opened(payload)


def test_a_body_that_cannot_be_decompressed_is_refused_even_if_its_seal_is_valid():
    body = b"{}"
    payload = codec.DEFLATED + codec._mac(codec.DEFLATED, BINDING, body, "key") + body

    with pytest.raises(ValueError, match="cannot be decompressed"):
        opened(payload)


def test_a_fallback_key_opens_and_is_reported():
    payload = sealed(b"{}", "old")

    assert opened(payload, ["new", "old"]) == (b"{}", False)
    with pytest.raises(BadSignature):
        opened(payload, ["new"])


def test_the_largest_keys_come_first():
    data = {"a": "x", "b": "x" * 100, "c": "x" * 10, "d": "x" * 50}

    assert list(codec.largest_keys(JSONSerializer, data)) == ["b", "d", "c"]


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (
            "01344ab33af6c8753428c7b426cf0d7cd419b268b538bbc8c761fb4e05caf227067b22626f6f6b5f6e616d"
            "65223a22536865726c6f636b20486f6c6d6573227d",
            b'{"book_name":"Sherlock Holmes"}',
        ),
        (
            "02dd7a40b32200f454289e79040a6659c779ef2acf86b63181682e2921cd6731fb7801ab564a54b252aa18"
            "05a321301a02a32140851050aa0500834a05da",
            b'{"a":"' + b"x" * 1100 + b'"}',
        ),
    ],
)
def test_a_payload_that_an_earlier_version_has_stored_still_opens(payload, body):
    document_id = documents.document_id("0123456789abcdefghijklmnopqrstuv")
    created_at = datetime(2026, 11, 26, 12, 0, 0, 123_000, tzinfo=timezone.utc)
    binding = documents.binding(document_id, created_at)

    assert opened(bytes.fromhex(payload), ["the key before"], binding) == (body, True)


# Limits


def test_a_body_is_not_decompressed_past_the_limit(monkeypatch):
    monkeypatch.setattr(codec, "MAX_BODY", 2_000)
    assert opened(sealed(b"x" * 2_000)) == (b"x" * 2_000, True)

    with pytest.raises(ValueError, match="more than 2,000 bytes"):
        opened(sealed(b"x" * 2_001))

    bomb = sealed(bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 2,000 bytes"):
            opened(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_incomplete_compressed_body_does_not_open():
    deflated = zlib.compress(b"x" * 2_000, 1)[:-6]
    mac = codec._mac(codec.DEFLATED, BINDING, deflated, "key")

    with pytest.raises(ValueError, match="cannot be decompressed"):
        opened(codec.DEFLATED + mac + deflated)


# Pointers


def test_a_pointer_names_a_document_and_is_not_a_body():
    payload = codec.seal_pointer(b"target", BINDING, "key")

    assert codec.unseal_pointer(payload, BINDING, ["key"]) == b"target"
    with pytest.raises(ValueError, match="form 05 is unknown"):
        opened(payload)
    with pytest.raises(ValueError, match="form 01 is not a pointer"):
        codec.unseal_pointer(sealed(b"{}"), BINDING, ["key"])


def test_a_pointer_is_sealed_to_its_document():
    payload = codec.seal_pointer(b"target", BINDING, "key")

    for binding, key in [(BINDING[::-1], "key"), (BINDING, "another")]:
        with pytest.raises(BadSignature):
            codec.unseal_pointer(payload, binding, [key])
