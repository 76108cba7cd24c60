"""What holds for sealed sessions holds for encrypted ones: the same tests once more, in one way."""

import pytest

from django_mongo_sessions.storage import codec
from tests.conftest import IS_LONG, encrypt_with
from tests.engine.conftest import held, two  # noqa: F401
from tests.engine.test_merged_keys import *  # noqa: F403
from tests.promises import test_histories as histories
from tests.promises.test_histories import frozen  # noqa: F401
from tests.promises.test_interleavings import (  # noqa: F401
    impatient,
    test_no_update_is_lost_in_any_interleaving,
    test_no_update_is_lost_while_other_requests_write,
)
from tests.promises.test_lost_replies import *  # noqa: F403
from tests.promises.test_unfinished_moves import (  # noqa: F401
    moved,
    test_the_next_write_ends_the_old_key,
    test_what_was_stored_under_the_old_key_since_comes_along,
)

pytestmark = [pytest.mark.only("mongomock", "sync"), pytest.mark.untraced]


@pytest.fixture(autouse=True)
def encrypted(monkeypatch):
    """Encrypt by default, and see to it that this is what happens."""
    made = []
    encrypt_with(monkeypatch, bytes(range(32)))
    encrypt = codec.encrypt

    def counted(*args):
        made.append(encrypt(*args))
        return made[-1]

    monkeypatch.setattr(codec, "encrypt", counted)
    yield
    assert {payload[:1] for payload in made} == {codec.BOUND}


@pytest.mark.skipif(not IS_LONG, reason="in the long profile")
@pytest.mark.parametrize("sessions", [1, 3], ids=["alone", "joined"])
def test_acknowledged_changes_are_stored_exactly_once(frozen, monkeypatch, sessions):  # noqa: F811
    histories.test_acknowledged_changes_are_stored_exactly_once(
        None, monkeypatch, sessions, *histories.WORLDS["moves of all"]
    )
