"""The sessions of a user end with the account: once it is deleted, or saved as inactive."""

import subprocess
import sys

import pytest
from asgiref.sync import async_to_sync
from bson.binary import UUID_SUBTYPE, Binary
from django.apps import apps as registry
from django.contrib.auth.models import AbstractBaseUser, Group, User
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete

from django_mongo_sessions import apps
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.signals import session_revoked
from tests.conftest import collection, count_sessions

pytestmark = pytest.mark.django_db


class Colleague(User):
    """The user model under another name."""

    class Meta:
        proxy = True
        app_label = "elsewhere"


class Robot(AbstractBaseUser):
    """A model of those who sign in, but not the site's user model."""

    class Meta:
        app_label = "elsewhere"


@pytest.fixture(autouse=True)
def followed(monkeypatch):
    """Let the app follow these models, as it follows those of installed apps."""
    with monkeypatch.context() as context:
        context.setattr(registry, "get_models", lambda: [User, Group, Colleague, Robot])
        registry.get_app_config("django_mongo_sessions").ready()
    yield
    post_delete.disconnect(sender=Colleague, dispatch_uid="django_mongo_sessions")


def sign_in(user, **data):
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), **data})
    session.save()


@pytest.fixture
def user(db):
    return User.objects.create_user("a")


@pytest.fixture
def signed_in(mongod_engine, user):
    """A user with two sessions, beside another one's."""
    other = User.objects.create_user("b")
    for each in (user, user, other):
        sign_in(each)
    return user


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """A transaction that commits, while the test's own does not."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def unreachable(settings, monkeypatch):
    """Whatever would use MongoDB fails."""

    def refuse():
        raise AssertionError("MongoDB is used")

    monkeypatch.setattr(clients, "collection", refuse)


def deactivate(user):
    user.is_active = False
    user.save()


def deactivate_alone(user):
    user.is_active = False
    user.save(update_fields=["is_active"])


def deactivate_in_an_event_loop(user):
    user.is_active = False
    async_to_sync(user.asave)()


ENDS = [
    User.delete,
    lambda user: User.objects.filter(pk=user.pk).delete(),
    lambda user: Colleague.objects.get(pk=user.pk).delete(),
    lambda user: Colleague.objects.filter(pk=user.pk).delete(),
    deactivate,
    deactivate_alone,
    deactivate_in_an_event_loop,
    lambda user: deactivate(Colleague.objects.get(pk=user.pk)),
]


@pytest.mark.parametrize("end", ENDS)
def test_the_sessions_of_a_user_end_with_the_account(signed_in, committed, end):
    with committed():
        end(signed_in)
        assert count_sessions() == 3

    assert count_sessions() == 1


def test_so_do_those_in_which_somebody_else_acts_for_the_user(signed_in, committed):
    sign_in(signed_in, hijack_history=["1"])

    with committed():
        signed_in.delete()

    assert count_sessions() == 1


def test_each_is_announced(signed_in, committed):
    sent = []

    def receive(session, reason, request, **kwargs):
        sent.append((session.user_id, reason, request))

    session_revoked.connect(receive)
    user_id = str(signed_in.pk)
    try:
        with committed():
            signed_in.delete()
    finally:
        session_revoked.disconnect(receive)

    assert sent == [(user_id, "account", None)] * 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ENDS)
def test_they_end_when_a_transaction_commits_and_stay_if_it_is_rolled_back(signed_in, end):
    with transaction.atomic():
        end(User.objects.get(pk=signed_in.pk))
        transaction.set_rollback(True)

    assert count_sessions() == 3

    with transaction.atomic():
        end(User.objects.get(pk=signed_in.pk))
        assert count_sessions() == 3

    assert count_sessions() == 1


@pytest.mark.django_db(transaction=True)
def test_they_end_at_once_if_there_is_no_transaction(signed_in):
    deactivate(signed_in)

    assert count_sessions() == 1


@pytest.mark.django_db(transaction=True)
def test_they_end_at_once_if_the_site_commits_by_itself(signed_in):
    transaction.set_autocommit(False)
    try:
        deactivate(signed_in)
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert count_sessions() == 1


# What sends nothing


def save_active(user):
    user.first_name = "Ada"
    user.save()


def save_what_was_loaded(user):
    some = User.objects.only("first_name").get(pk=user.pk)
    with connection.execute_wrapper(only_updates):
        some.save()


def only_updates(execute, sql, *args):
    assert not sql.startswith("SELECT"), sql
    return execute(sql, *args)


def save_something_else(user):
    user.is_active = False  # in memory, such as by a form with an error
    user.save(update_fields=["last_login"])


def load_a_fixture(user):
    user.is_active = False
    [loaded] = serializers.deserialize("json", serializers.serialize("json", [user]))
    loaded.save()


OTHERS = [
    save_active,
    save_what_was_loaded,
    save_something_else,
    load_a_fixture,
    lambda user: User.objects.create_user("c", is_active=False),
    lambda user: User.objects.create_user("c").groups.create(name="d"),
    lambda user: Group.objects.create(name="d").delete(),
]


@pytest.mark.parametrize("use", OTHERS)
def test_other_changes_send_nothing(signed_in, committed, unreachable, use):
    with committed() as callbacks:
        use(signed_in)

    assert callbacks == []


def test_rows_of_other_models_are_still_deleted_by_one_query():
    collector = Collector("default")

    assert collector.can_fast_delete(Group.user_set.through.objects.all())
    assert not collector.can_fast_delete(User.objects.all())
    assert not post_delete.has_listeners(Robot)


@pytest.mark.parametrize("end", ENDS)
def test_nothing_happens_if_revoke_with_account_is_false(
    user, settings, committed, unreachable, end
):
    settings.MONGO_SESSIONS = {"REVOKE_WITH_ACCOUNT": False}

    with committed() as callbacks:
        end(user)

    assert callbacks == []


@pytest.mark.parametrize("end", ENDS)
def test_nothing_happens_with_another_engine(user, settings, committed, unreachable, end):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"

    with committed() as callbacks:
        end(user)

    assert callbacks == []


def test_a_model_without_is_active_is_followed_until_it_is_deleted(
    mongod_engine, monkeypatch, committed
):
    monkeypatch.setattr(apps, "get_user_model", lambda: Group)
    registry.get_app_config("django_mongo_sessions").ready()
    group = Group.objects.create(name="a")
    sign_in(group)

    with committed():
        group.save()
    assert count_sessions() == 1

    with committed():
        group.delete()
    post_delete.disconnect(sender=Group, dispatch_uid="django_mongo_sessions")
    assert count_sessions() == 0


# Failures


@pytest.mark.parametrize("end", ENDS)
def test_an_outage_is_a_warning_and_does_not_fail_the_save(
    user, settings, soon_told, committed, logged, end
):
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:1/site", "TIMEOUT": 0.1}
    user_id = user.pk

    with committed():
        end(user)

    assert not User.objects.filter(is_active=True).exists()
    [record] = logged()
    assert record.levelname == "WARNING"
    assert "could not be ended" in record.getMessage()
    assert f"The user {user_id} " in record.getMessage()
    clients.reset()


def test_nor_does_a_session_that_cannot_be_decoded(
    mongod_engine, user, settings, committed, logged
):
    sign_in(user)
    no_uuid = {"$set": {"created_at": Binary(b"too short", UUID_SUBTYPE)}}
    collection().update_one({}, no_uuid)
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "uuidRepresentation": "standard"}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}

    with committed():
        deactivate(user)

    assert "could not be ended" in logged()[-1].getMessage()


def test_nor_do_wrong_settings(user, settings, committed, logged):
    def fail():
        raise ImproperlyConfigured("no client")

    settings.MONGO_SESSIONS = {"CLIENT": fail}

    with committed():
        user.delete()

    assert "no client" in logged()[0].getMessage()
    clients.reset()


WITHOUT_AUTH = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a test's",
    INSTALLED_APPS=["django.contrib.contenttypes", "django_mongo_sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
    MONGO_SESSIONS={"URI": "mongomock://"},
)
django.setup()

from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command

import django_mongo_sessions.users

call_command("migrate", verbosity=0)
kept = ContentType.objects.create(app_label="a", model="b")
kept.save()
kept.delete()
print(ContentType.objects.filter(app_label="a").count())
"""


def test_a_site_without_users_saves_and_deletes_its_models():
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_AUTH], capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")
