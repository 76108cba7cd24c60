"""What the flows share. tests/test_recipes.py runs those of each package in a process."""

import pytest
from django.contrib.auth.models import User

from tests.recipes import PASSWORD


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)
