"""What each action has sent to MongoDB, as the page shows it."""

import pytest
from django.contrib.auth.models import User

from testproject.watching import COOKIE
from tests.conftest import collection


@pytest.fixture(autouse=True)
def as_in_the_demo(db, mongod_engine, demo_settings):
    """The settings of the demo, on a real server."""


def sent(client, name, **data):
    """Send a form, and return the names of the commands that the next page shows."""
    response = client.post(f"/do/{name}/", data, follow=True)
    shown = response.context["sent"]
    assert shown.action == name
    assert shown.total == len(shown.commands)
    return [command.name for command in shown.commands]


def test_each_action_shows_the_commands_that_it_has_sent(client):
    indexes = ["listIndexes", "createIndexes"]
    first = sent(client, "set_key", key="city", value="London")
    assert [name for name in first if name not in indexes] == ["insert"]
    assert sent(client, "set_key", key="city", value="Meiringen") == ["find", "update"]
    assert sent(client, "get_key", key="city") == ["find"]
    assert sent(client, "get_expiry_age") == ["find"]
    assert sent(client, "cycle_key") == ["find", "insert", "update"]
    assert sent(client, "tamper") == ["find", "find", "update"]
    assert sent(client, "flush") == ["delete"]
    assert "No command was sent to MongoDB." in " ".join(
        client.post("/do/get_key/", {"key": "city"}, follow=True).content.decode().split()
    )


def test_what_is_shown_of_a_command_is_its_shape_and_no_payload(client):
    client.post("/do/set_key/", {"key": "city", "value": "London"})
    response = client.post("/do/set_key/", {"key": "city", "value": "Rome"}, follow=True)

    stored = collection().find_one()
    _, update = response.context["sent"].commands
    assert update.text.startswith(f"updates: [{{q: {{_id: {stored['_id'].hex()[:12]}…, ")
    assert f"payload: ({len(stored['payload'])} bytes)" in update.text
    assert "Rome" not in update.text


def test_the_commands_are_shown_once(client):
    response = client.post("/do/set_key/", {"key": "city", "value": "London"}, follow=True)
    assert response.context["sent"].total

    assert client.get("/").context["sent"] is None


@pytest.mark.parametrize("path", ["/do/set_key/", "/try/nested/"])
def test_the_page_is_silent_on_commands_if_mongomock_gets_them(client, settings, path):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "URI": "mongomock://"}

    response = client.post(path, {"key": "city", "value": "London"}, follow=True)

    assert "sent to MongoDB" not in response.content.decode()


def test_a_cookie_that_is_not_the_demos_shows_no_commands(client):
    client.cookies[COOKIE] = "forged"

    assert client.get("/").context["sent"] is None


def test_signing_in_shows_the_commands_too(client):
    User.objects.create_user("demo", password="demo")
    form = {"username": "demo", "password": "demo", "next": "/"}

    response = client.post("/signin/", form, follow=True)

    assert response.context["sent"].action == "signin"
    assert "insert" in [command.name for command in response.context["sent"].commands]


def test_what_a_page_reads_is_not_counted_as_an_actions(client):
    client.get("/setsession/")

    client.get("/")

    assert COOKIE not in client.cookies
