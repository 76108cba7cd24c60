from django.test import override_settings

from django_mongo_sessions.conf import conf


@override_settings()
def test_every_key_is_optional(settings):
    del settings.MONGO_SESSIONS

    assert conf.URI == "mongodb://localhost:27017"
    assert conf.DATABASE is None
    assert conf.COLLECTION == "sessions"
    assert conf.CLIENT_OPTIONS == {}
    assert conf.TIMEOUT == 5.0


def test_settings_are_read_live(settings):
    for uri in ("mongodb://one", "mongodb://two"):
        settings.MONGO_SESSIONS = {"URI": uri}
        assert uri == conf.URI


def test_the_key_that_signs_comes_before_those_that_may_only_open(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old", "older"]

    assert conf.SIGNING_KEYS == ["new", "old", "older"]
