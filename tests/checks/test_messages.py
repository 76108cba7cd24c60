"""The catalogue of the checks."""

from pathlib import Path

from django.core import checks as django_checks

from django_mongo_sessions import checks
from django_mongo_sessions.checks.messages import MESSAGES, message


def test_every_finding_has_a_message_a_hint_and_a_test():
    tests = ("test_settings.py", "test_server.py", "test_encryption.py")
    source = "".join(Path(__file__).with_name(name).read_text() for name in tests)

    for id, finding in MESSAGES.items():
        assert finding.message
        assert finding.hint
        assert f'"{id}"' in source, f"{id} is not tested"


def test_an_error_stops_and_a_warning_does_not():
    assert isinstance(message("E005"), django_checks.Error)
    assert isinstance(message("W001"), django_checks.Warning)
    assert message("W001").id == "mongo_sessions.W001"


def test_the_checks_are_bound():
    registered = django_checks.registry.registry.get_checks(include_deployment_checks=True)

    names = {check.__name__ for check in registered if "mongo" in check.__module__}
    assert names == {name for name in vars(checks) if name.startswith("check_")}
