"""Sets Django up for one contender; a process does it once."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks.contenders import Contender
from benchmarks.servers import Addresses


def set_up(contender: Contender, addresses: Addresses) -> None:
    """Configure the least that a site needs, and make the table of a contender that has one."""
    own = contender.settings(addresses)
    settings.configure(
        **{
            "SECRET_KEY": "the benchmarks' key, known to everybody who reads this line",
            "ALLOWED_HOSTS": ["127.0.0.1"],
            "INSTALLED_APPS": ["django.contrib.sessions"],
            "MIDDLEWARE": [contender.middleware],
            "ROOT_URLCONF": "benchmarks.handlers",
            "USE_TZ": True,
            **own,
        }
    )
    django.setup()
    if "DATABASES" in own:
        call_command("migrate", verbosity=0)
