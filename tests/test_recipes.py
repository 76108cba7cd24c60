"""What the recipes show does what it says. The packages of others need not be installed."""

import os
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.urls import urlpatterns as auth_urls
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.conf import conf
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.signals import session_client_changed, session_revoked
from tests.recipes import PASSWORD, browser, is_signed_in, record

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
PAGE = (RECIPES.parent / "users.md").read_text()
GUIDES = {page.name: page.read_text() for page in RECIPES.parent.glob("*.md")}
# What has to be importable for the flows of a package.
PACKAGES = {
    "allauth": ["allauth", "fido2", "rest_framework"],
    "axes": ["axes"],
    "channels": ["channels", "daphne"],
    "hijack": ["hijack"],
    "ninja": ["ninja"],
    "rest_framework": ["rest_framework"],
}
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

pytestmark = pytest.mark.usefixtures("mongod_engine")


def recipe(name):
    return import_module(f"docs.recipes.{name}")


def hello(request):
    request.session.modified = True  # so that it is stored
    return HttpResponse("hello")


@pytest.fixture
def site(settings, db):
    """`site(*patterns)` serves these URLs."""

    def site(*patterns):
        urls = ModuleType("urls_of_a_recipe")
        urls.urlpatterns = [path("hello/", hello), *patterns]
        settings.ROOT_URLCONF = urls
        settings.LOGIN_URL = "/accounts/login/"
        settings.LOGIN_REDIRECT_URL = "/hello/"

    return site


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


# The page


def test_each_recipe_is_on_a_page():
    pages = "\n".join(GUIDES.values())
    shown = re.findall(r"^```\{literalinclude\} recipes/(\S+)$", pages, re.MULTILINE)

    assert set(shown) == {
        path.relative_to(RECIPES).as_posix()
        for path in RECIPES.rglob("*.*")
        if path.suffix != ".pyc"
    }


SETTINGS = [block for block in BLOCKS if "MONGO_SESSIONS = {" in block and "axes" not in block]


@pytest.mark.parametrize("block", SETTINGS, ids=range(len(SETTINGS)))
def test_a_settings_module_may_be_written_like_that(block, tmp_path, settings):
    """In a process of its own: it imports the package while Django reads the settings."""
    (tmp_path / "site_settings.py").write_text("SECRET_KEY = 'a test'\n" + block)
    code = """
        import django
        django.setup()
        from django_mongo_sessions.conf import conf
        assert list(conf.faults()) == []
        print(conf.ADDRESS, conf.MAX_SESSIONS)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": path_of(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    namespace = {}
    exec(block, namespace)
    settings.MONGO_SESSIONS = namespace["MONGO_SESSIONS"]
    assert done.stdout.split() == [str(conf.ADDRESS), str(conf.MAX_SESSIONS)]


def path_of(*folders):
    return ":".join(map(str, [*folders, *filter(None, sys.path)]))


# Django alone


def test_the_page_lists_sessions_and_ends_them(site, alice, settings):
    record(settings, USER_AGENT=True, ADDRESS="prefix")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [RECIPES]}]
    site(path("sessions/", recipe("page").sessions, name="sessions"))
    own, phone, tablet = [
        browser(alice, HTTP_USER_AGENT=FIREFOX, REMOTE_ADDR=f"203.0.{number}.7")
        for number in range(3)
    ]

    response = own.get("/sessions/")
    found = response.context["sessions"]

    shown = response.content.decode()
    assert shown.count("Firefox on Linux") == 3
    assert shown.count("this device") == 1
    assert "203.0.1.0/24" in shown

    [of_phone] = [each for each in found if each.address == "203.0.1.0/24"]
    assert own.post("/sessions/", {"session": of_phone.id}).status_code == 302
    assert [is_signed_in(each) for each in (own, phone, tablet)] == [True, False, True]

    own.post("/sessions/", {"others": "1"})
    assert [is_signed_in(each) for each in (own, tablet)] == [True, False]

    assert Client().get("/sessions/").status_code == 302


@pytest.mark.parametrize("signs_in", [True, False])
@pytest.mark.parametrize("was_signed_in", [True, False])
def test_a_password_reset_signs_out_all_devices(site, alice, settings, signs_in, was_signed_in):
    view = recipe("password_reset").PasswordResetConfirmView
    confirm = view.as_view(
        post_reset_login=signs_in,
        post_reset_login_backend="django.contrib.auth.backends.ModelBackend",
    )
    site(
        path("reset/<uidb64>/<token>/", confirm, name="password_reset_confirm"),
        *auth_urls,
    )
    other, client = browser(alice), browser(alice) if was_signed_in else Client()
    uid = urlsafe_base64_encode(force_bytes(alice.pk))
    token = default_token_generator.make_token(alice)

    form = client.get(f"/reset/{uid}/{token}/").url
    done = client.post(form, {"new_password1": "staple 4711", "new_password2": "staple 4711"})

    assert done.status_code == 302
    assert not is_signed_in(other)
    assert is_signed_in(client) is signs_in
    alice.refresh_from_db()
    assert alice.check_password("staple 4711")
    assert users.count_sessions(str(alice.pk)) == signs_in


# The settings of a site before Django 6.1 are what most sites have.
@pytest.mark.filterwarnings("ignore:Django .* will not have a default mailer")
def test_receivers_are_told(site, alice, settings, capsys):
    record(settings, USER_AGENT=True)
    signals = recipe("signals")
    try:
        site()
        client = browser(alice, HTTP_USER_AGENT=FIREFOX)
        client.get("/hello/", HTTP_USER_AGENT="MyApp/1.0")
        users.revoke_all_sessions(alice)
    finally:
        session_revoked.disconnect(signals.log_the_end)
        session_client_changed.disconnect(signals.tell_the_user)

    [sent] = mail.outbox
    assert sent.to == ["alice@example.com"]
    assert "MyApp" in sent.body
    shown = f"MyApp of user {alice.pk} was signed out (all).\n"
    assert capsys.readouterr().out == shown


def test_a_conflict_is_told_by_the_view(rf, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ON_CONFLICT": "raise"}
    first = SessionStore()
    first["address"] = "Baker Street"
    first.save()
    request = rf.post("/", {"address": "Reichenbach"})
    request.session = SessionStore(first.session_key)
    assert request.session["address"] == "Baker Street"  # and so it is loaded
    first["address"] = "Sussex"
    first.save()

    response = recipe("conflict").set_address(request)
    response = SessionMiddleware(lambda request: response).process_response(request, response)

    assert response.status_code == 409
    assert b'["address"]' in response.content
    assert SessionStore(first.session_key)["address"] == "Sussex"


# Others' packages


@pytest.mark.parametrize("package", PACKAGES)
def test_sessions_beside_a_package_of_others(package, mongod_uri):
    """In a process of its own, since each needs other apps. `tox -e recipes` has them all."""
    missing = [name for name in PACKAGES[package] if find_spec(name) is None]
    if missing and "NEEDS_RECIPES" not in os.environ:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--ds=tests.recipes.settings", f"tests/recipes/{package}_flows.py"),
            # What others deprecate is not ours to judge.
            *("-o", "filterwarnings=default"),
        ],
        env={**os.environ, "RECIPE": package, "MONGODB_URI": mongod_uri},
        cwd=RECIPES.parents[1],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_axes_is_named_as_the_test_names_it():
    [block] = [block for block in BLOCKS if "axes" in block]
    flows = (RECIPES.parents[1] / "tests" / "recipes" / "axes_flows.py").read_text()

    path_of_function = re.search(r'"ADDRESS_FROM": ("axes.*?")', block)[1]
    assert f"ADDRESS_FROM={path_of_function}" in flows
