"""A session at the end of its request, for the questions of Django's `process_response`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpResponse
from pymongo.errors import PyMongoError

from django_mongo_sessions import refusals
from django_mongo_sessions.backends.mongodb import SessionStore

# What the answers may take of a store: a verb, and its twin.
Verb = tuple[str, str]
_LOAD: Verb = ("_get_session", "_aget_session")
_SAVE: Verb = ("save", "asave")
_TOUCH: Verb = ("_touch", "_atouch")


class StandIn:
    """Stands in for a session. Of the verbs that its answers take, each is done once."""

    def __init__(self, session: SessionStore, response: HttpResponse) -> None:
        self.session = session
        self.accessed = session.accessed
        self._is_changed = session.modified
        self._has_failed = response.status_code >= 500  # then nothing is saved, and no cookie set
        is_due = self._is_changed or settings.SESSION_SAVE_EVERY_REQUEST
        self._is_to_be_saved = is_due and not self._has_failed
        self._is_touch_due = not is_due and not self._has_failed and session._is_touch_due()
        self._outcomes: dict[Verb, Any] = {}
        self.outage: PyMongoError | None = None  # what a verb has raised

    @property
    def modified(self) -> bool:
        # No write, no cookie: where the session has moved to another key meanwhile, its cookie
        # would take the place of the one that the browser has been given.
        return self._is_changed or (self._is_touch_due and self._outcome(_TOUCH))

    @property
    def session_key(self) -> str | None:
        return self.session.session_key

    def is_empty(self) -> bool:
        session = self.session
        is_unread = session.session_key and not hasattr(session, "_session_cache")
        if is_unread and self._is_to_be_saved:
            # Django finds out that a cookie is stale as it saves, and begins an empty session.
            self._outcome(_LOAD)
        return session.is_empty()

    def get_expire_at_browser_close(self) -> bool:
        if self._is_to_be_saved:
            self._outcome(_SAVE)  # first: another request may have set another expiry
        # Where no cookie is set, there is no need to read the session.
        return self._has_failed or self.session.get_expire_at_browser_close()

    def get_expiry_age(self) -> int:
        return self.session.get_expiry_age()

    def save(self) -> None:
        if not self._is_touch_due and isinstance(error := self._outcome(_SAVE), UpdateError):
            raise error

    def left_the_document_alone(self) -> bool:
        """Return whether the save stored nothing, as it does where the document does not open."""
        stored = self.session._current()
        return _SAVE in self._outcomes and stored is not None and not stored.opened

    def _outcome(self, verb: Verb) -> Any:
        """Return what a verb has returned, or the UpdateError that it has raised."""
        if verb not in self._outcomes:
            raise Needed(verb)
        return self._outcomes[verb]

    def is_away(self, response: HttpResponse) -> bool:
        """Return whether MongoDB was away: for what the answers take, or, as Django's page of an
        error may say, for the view or another middleware.
        """
        return self.outage is not None or (
            self.session._outage is not None and response.status_code == 500
        )

    def is_unread(self) -> bool:
        """Return whether the view has coped without the session, of which nothing is known then."""
        return self.session._outage is not None and not self._is_changed

    def provide(self, verb: Verb) -> None:
        """Do a verb that an answer takes."""
        try:
            self._outcomes[verb] = getattr(self.session, verb[0])()
        except (UpdateError, PyMongoError) as error:
            self._met(verb, error)

    async def aprovide(self, verb: Verb) -> None:
        """See provide(). A project may have overridden the blocking verb alone."""
        if self._is_overridden(verb):
            return await sync_to_async(self.provide)(verb)
        try:
            self._outcomes[verb] = await getattr(self.session, verb[1])()
        except (UpdateError, PyMongoError) as error:
            self._met(verb, error)

    def _met(self, verb: Verb, error: UpdateError | PyMongoError) -> None:
        """Keep what a verb has raised, where it is part of the answer; else raise it."""
        if isinstance(error, UpdateError):
            self._outcomes[verb] = error
        elif refusals.is_outage(error) and not settings.DEBUG_PROPAGATE_EXCEPTIONS:
            self.outage = error
        else:
            raise error

    def _is_overridden(self, verb: Verb) -> bool:
        """Return whether a subclass defines the blocking verb, and none below it the twin."""
        classes = type(self.session).__mro__
        return verb[1] not in next(vars(cls) for cls in classes if {*verb} & vars(cls).keys())


class Needed(BaseException):
    """A verb has to be awaited first. Neither Django nor a project catches what is this."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
