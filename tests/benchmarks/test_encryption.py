"""Encryption is measured: whether the figures come about, and not what they are."""

from benchmarks import encryption, payloads
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import clients


def test_each_operation_is_measured_sealed_and_encrypted(mongod_uri):
    rows = encryption.measure(mongod_uri, rounds=1)
    clients.reset()

    names = {"load", "save", "processor time to close and open"}
    cases = {(row["operation"], row["size"]) for row in rows}
    assert cases == {(name, size) for name in names for size in payloads.SIZES}
    assert len(encryption.as_markdown(rows).splitlines()) == 2 + len(rows)
    assert conf.ENCRYPTION_KEYS is None
