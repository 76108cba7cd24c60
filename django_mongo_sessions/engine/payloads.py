"""Close and open payloads as the settings say: sealed, or encrypted.

If a key cannot be obtained, that is an error, and never an empty session. If sessions are to be
encrypted, none is ever stored in plain text instead.
"""

from __future__ import annotations

from django.core.signing import BadSignature

from django_mongo_sessions.conf import conf
from django_mongo_sessions.mongo.runner import Call, Steps
from django_mongo_sessions.storage import codec, keyring


def closed(body: bytes, binding: bytes, session_key: str) -> Steps[tuple[bytes, str | None]]:
    """Return the payload of a body, and the id of the key that encrypts it, if it is encrypted.

    Raises KeysUnavailable, or ImproperlyConfigured if a setting is wrong.
    """
    if not conf.encrypts:
        return codec.seal(body, binding, conf.SIGNING_KEYS[0], conf.compress_from(False)), None
    key = (yield from ring()).first
    payload = codec.encrypt(body, binding, session_key, key, conf.compress_from(True))
    return payload, key.id.hex()


def opened(payload: bytes, binding: bytes, session_key: str) -> Steps[tuple[bytes, bool]]:
    """Return the body of a payload, and whether it is closed as it would be now.

    Raises BadSignature or ValueError if it does not open, KeysUnavailable if the key may exist, and
    ImproperlyConfigured if a setting is wrong.
    """
    mode = conf.encryption
    if not codec.is_encrypted(payload):
        if mode == "only":
            raise BadSignature(
                "it is not encrypted, which MONGO_SESSIONS['ENCRYPTION'] requires unless it is "
                '"transition"'
            )
        body, is_current = codec.unseal(payload, binding, conf.SIGNING_KEYS)
        return body, is_current and mode != "transition"
    if mode is None:
        raise BadSignature("it is encrypted, and MONGO_SESSIONS has no ENCRYPTION_KEYS")
    keys = yield from ring()
    try:
        body, is_current = codec.decrypt(payload, binding, session_key, keys)
    except codec.UnknownKey:
        keys = yield Call(keyring.source().get_newer, (keys,))
        body, is_current = codec.decrypt(payload, binding, session_key, keys)
    return body, is_current and mode != "prepare"


def ring() -> Steps[keyring.Ring]:
    """Return the keys that encrypt sessions; see `Source.get` for what is raised."""
    source = keyring.source()
    return source.ring or (yield Call(source.get, ()))
