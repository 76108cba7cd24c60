"""A project's own tests need one line of settings, and no server."""

import pytest
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from django_mongo_sessions.connection import clients


@override_settings(
    SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
    MONGO_SESSIONS={"URI": "mongomock://"},
)
class TestOfAProject(TestCase):
    """A test as Django's own TestCase runs it."""

    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create_superuser("holmes", password="violin")

    def setUp(self):
        self.addCleanup(clients.reset)

    def test_the_client_signs_in(self):
        self.client.force_login(self.user)

        assert self.client.get("/admin/").status_code == 200
        self.client.logout()
        assert self.client.get("/admin/").status_code == 302

    async def test_the_asynchronous_client_keeps_a_session(self):
        await self.async_client.get("/setsession/")

        response = await self.async_client.get("/getsession/")
        assert b"Sherlock Holmes" in response.content

    def test_a_test_begins_without_sessions(self):
        assert clients.collection().collection.count_documents({}) == 0
        self.client.session.save()
        assert clients.collection().collection.count_documents({}) == 1

    test_another_test_does_too = test_a_test_begins_without_sessions


@pytest.fixture
def in_memory(settings):
    settings.MONGO_SESSIONS = {"URI": "mongomock://"}
    yield
    clients.reset()


@pytest.mark.django_db
@pytest.mark.parametrize("n", [1, 2])
def test_pytest_django_signs_in(in_memory, client, admin_user, n):
    assert clients.collection().collection.count_documents({}) == 0

    client.force_login(admin_user)

    assert client.get("/admin/").status_code == 200
