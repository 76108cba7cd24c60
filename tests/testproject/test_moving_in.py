"""`make demo ARGS=moving-in`."""

import pytest

from testproject import demo, moving_in


@pytest.mark.django_db
def test_the_demo_shows_that_nobody_is_signed_out_and_nobody_comes_back(engine, settings):
    settings.ALLOWED_HOSTS = ["testserver"]
    demo._make_demo_users()
    said = []

    moving_in.show(said.append)

    answers = [line.strip() for line in said if line.startswith("   ")]
    table = "in the table django_session: {}; in MongoDB: {}".format
    assert answers == [
        *("signed in: yes", table("yes", "no")),
        *("signed in: yes", table("no", "yes")),
        *("signed in: no", table("no", "no")),
        *("signed in: no", table("yes", "no")),
    ]
