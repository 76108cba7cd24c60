"""A session at the end of its request, which answers what Django's `process_response` asks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpResponse
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import errors

# A method of the store that an answer needs: its blocking name, and its asynchronous one.
Method = tuple[str, str]
_LOAD: Method = ("_get_session", "_aget_session")
_SAVE: Method = ("save", "asave")
_AGE: Method = ("get_expiry_age", "aget_expiry_age")
_TOUCH: Method = ("_touch", "_atouch")


class DeferredSession:
    """Takes the place of the session while Django's code decides about session and cookie.

    If an answer needs I/O, it raises NeedsIO. The middleware performs the method and lets Django's
    code begin again, so each method is performed once.
    """

    def __init__(self, session: SessionStore, response: HttpResponse) -> None:
        self.session = session
        self.accessed = session.accessed
        self._is_changed = session.modified
        self._has_failed = response.status_code >= 500  # then nothing is saved, and no cookie set
        is_due = self._is_changed or settings.SESSION_SAVE_EVERY_REQUEST
        self._will_save = is_due and not self._has_failed
        self._is_touch_due = not is_due and not self._has_failed and session._is_touch_due()
        self._outcomes: dict[Method, Any] = {}
        self.outage: PyMongoError | None = None  # raised by a method that was performed

    @property
    def modified(self) -> bool:
        # No write, no cookie: if another request has moved the session to a new key, this cookie
        # would overwrite the one that the browser has been given.
        return self._is_changed or (self._is_touch_due and self._outcome(_TOUCH))

    @property
    def session_key(self) -> str | None:
        return self.session.session_key

    def is_empty(self) -> bool:
        session = self.session
        is_unread = session.session_key and not hasattr(session, "_session_cache")
        if is_unread and self._will_save:
            # Django notices a stale cookie only when it saves, and starts an empty session.
            self._outcome(_LOAD)
        return session.is_empty()

    def get_expire_at_browser_close(self) -> bool:
        if self._will_save:
            self._outcome(_SAVE)  # first, since another request may have set another expiry
        # If no cookie is set, the session need not be loaded.
        return self._has_failed or self.session.get_expire_at_browser_close()

    def get_expiry_age(self) -> int:
        if self.session._overrides("get_expiry_age"):  # it may do I/O
            return self._outcome(_AGE)  # type: ignore[no-any-return]
        return self.session.get_expiry_age()

    def save(self) -> None:
        if not self._is_touch_due and isinstance(error := self._outcome(_SAVE), UpdateError):
            raise error

    def left_document_alone(self) -> bool:
        """Return whether the save stored nothing, since the document is unreadable."""
        stored = self.session._baseline
        return _SAVE in self._outcomes and stored is not None and not stored.readable

    def _outcome(self, method: Method) -> Any:
        """Return what a method has returned, or the UpdateError that it has raised."""
        if method not in self._outcomes:
            raise NeedsIO(method)
        return self._outcomes[method]

    def is_unavailable(self, response: HttpResponse) -> bool:
        """Return whether MongoDB was down.

        An answer may have met that, or else the view or another middleware, if the response is
        Django's page for an error.
        """
        return self.outage is not None or (
            self.session._gate.outage is not None and response.status_code == 500
        )

    def is_unread(self) -> bool:
        """Return whether the view has coped without the session, which could not be loaded."""
        return self.session._gate.outage is not None and not self._is_changed

    def perform(self, method: Method) -> None:
        """Perform a method that an answer needs."""
        try:
            self._outcomes[method] = getattr(self.session, method[0])()
        except (UpdateError, PyMongoError) as error:
            self._keep(method, error)

    async def aperform(self, method: Method) -> None:
        """See perform()."""
        try:
            self._outcomes[method] = await getattr(self.session, method[1])()
        except (UpdateError, PyMongoError) as error:
            self._keep(method, error)

    def _keep(self, method: Method, error: UpdateError | PyMongoError) -> None:
        """Keep an error that is part of the answer; raise any other."""
        if isinstance(error, UpdateError):
            self._outcomes[method] = error
        elif errors.is_outage(error) and not settings.DEBUG_PROPAGATE_EXCEPTIONS:
            self.outage = error
        else:
            raise error


class NeedsIO(BaseException):
    """Raised when an answer needs I/O first.

    A BaseException, so that no `except Exception` swallows it.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
