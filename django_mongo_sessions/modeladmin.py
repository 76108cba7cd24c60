"""The sessions of all users in Django's admin: who is signed in, found by user and ended.

It is the admin of Django's own model `Session`, with rows that come from MongoDB. So there is no
model, table or migration, and the permissions are those that `migrate` has made for that model.
The data of sessions are never shown. For an admin site of your own::

    site.register(Session, SessionAdmin)
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected as delete_and_confirm
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldError, ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.functional import cached_property
from django.utils.translation import gettext, gettext_lazy

from django_mongo_sessions import users
from django_mongo_sessions.engine import signed_in
from django_mongo_sessions.engine.signed_in import Found, UserSession
from django_mongo_sessions.mongo.runner import Result, Steps, run
from django_mongo_sessions.storage import dates

__all__ = ["SessionAdmin", "SessionPaginator"]

_SEARCH_LENGTH = 300  # characters: more than a name or an e-mail address has
_FOUND_USERS = 1_000
# What a value raises that a model's field, or a search, cannot take.
_BAD_VALUE = (FieldError, ValidationError, ValueError, OverflowError)


@dataclass(frozen=True)
class _Line:
    """What the list shows of a session."""

    found: Found
    #: None if there is no such user.
    user: Any
    #: Who uses the session in the user's name, as text.
    impersonator: str | None

    @property
    def name(self) -> str:
        return self.found.shown.user_id if self.user is None else str(self.user)

    @property
    def label(self) -> str:
        shown = self.found.shown
        return gettext("%(user)s: %(device)s, signed in %(date)s") % {
            "user": self.name,
            "device": shown.device,
            "date": localize(dates.local(shown.created_at)),
        }

    @property
    def notes(self) -> Iterator[str]:
        if self.found.shown.is_current:
            yield gettext("this session")
        if self.impersonator is not None:
            yield gettext("used by %(user)s") % {"user": self.impersonator}
        if self.user is None:
            yield gettext("no such user")
        elif self.found.is_stale(users.hashes_of(self.user)):
            yield gettext("ended by a new password")


@dataclass(frozen=True)
class _Wanted:
    """Which sessions are asked for, by which request."""

    request: HttpRequest
    max_count: int
    user_ids: frozenset[str] | None = None  # None: of everybody
    pks: frozenset[str] | None = None  # None: all of them
    skip: int = 0
    limit: int = 0  # 0: none

    def of(self, user_ids: Iterable[str]) -> _Wanted:
        asked = frozenset(user_ids)
        return replace(self, user_ids=asked if self.user_ids is None else self.user_ids & asked)

    def count(self) -> int:
        return _run(self.request, signed_in.count_signed_in(self.user_ids, self.max_count))

    def read(self) -> list[_Line]:
        wanted, current = self, users.current_id(self.request)
        if self.pks is not None:
            wanted = self.of(pk.rpartition(":")[0] for pk in self.pks)
        steps = signed_in.find_signed_in(wanted.user_ids, current, self.skip, self.limit)
        found = [each for each in _run(self.request, steps) if self._includes(each)]
        others = [each.shown.impersonator_id for each in found]
        known = _users({each.shown.user_id for each in found}.union(filter(None, others)))
        return [
            _Line(
                each,
                known.get(each.shown.user_id),
                None if other is None else str(known.get(other, other)),
            )
            for each, other in zip(found, others, strict=True)
        ]

    def _includes(self, found: Found) -> bool:
        if self.pks is None:
            return True
        user_id = found.shown.user_id
        return any(f"{user_id}:{each}" in self.pks for each in signed_in.handles(found))


class _Rows(QuerySet):  # type: ignore[type-arg]
    """What the admin asks a queryset for, read from MongoDB. Each row is an unsaved `Session`.

    Its primary key is the user's id, and the name of the session among those of the user.
    """

    ordered = True
    wanted: _Wanted

    def asking(self, wanted: _Wanted) -> _Rows:
        """Return rows of the same model, for these sessions."""
        rows = self._clone()
        rows.wanted = wanted
        return rows

    def filter(self, *args: Any, **kwargs: Any) -> _Rows:
        """Return the rows with these primary keys. Raises FieldError for any other condition."""
        pks = kwargs.pop("pk__in", self.wanted.pks)
        if any(args) or kwargs:
            raise FieldError("Sessions can be filtered by their user only.")
        return self.asking(replace(self.wanted, pks=None if pks is None else frozenset(pks)))

    def count(self) -> int:
        """Return how many rows there are: see `SessionAdmin.max_count`."""
        return self.wanted.count() if self.wanted.pks is None else len(self)

    def __getitem__(self, part: Any) -> Any:
        """Return the rows of a page, which are not read yet."""
        is_whole = self.wanted.pks is None and not self.wanted.limit
        if is_whole and isinstance(part, slice) and part.stop:
            skip = part.start or 0
            return self.asking(replace(self.wanted, skip=skip, limit=part.stop - skip))
        return list(self)[part]

    def _clone(self) -> _Rows:
        clone: _Rows = super()._clone()  # type: ignore[misc]
        clone.wanted = self.wanted
        return clone

    def _fetch_all(self) -> None:
        if self._result_cache is None:
            self._result_cache = [self._row(line) for line in self.wanted.read()]

    def _row(self, line: _Line) -> Any:
        shown = line.found.shown
        row = self.model(session_key=f"{shown.user_id}:{shown.id}", expire_date=shown.expires_at)
        row.line = line
        return row


class UserFilter(admin.SimpleListFilter):
    """The sessions of one user: of whoever asks, or of the user with the id in the URL."""

    title = gettext_lazy("user")
    parameter_name = "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the user who asks, and the one with the id in the URL."""
        choices = {users.id_of(request.user): str(request.user)}
        if asked := self.value():
            choices.setdefault(asked, asked)
        return list(choices.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the sessions of the user with the id in the URL."""
        asked = self.value()
        return queryset.asking(queryset.wanted.of([asked])) if asked else queryset


class SessionPaginator(Paginator):  # type: ignore[type-arg]
    """Counts all sessions, but has pages only for the first of them.

    The server reads all sessions that come before a page.
    """

    #: How many pages there are at most.
    max_pages = 100

    @cached_property
    def num_pages(self) -> int:
        """Return how many pages there are."""
        return min(super().num_pages, self.max_pages)


class SessionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists and ends the sessions of users who are signed in.

    Needs the permission `sessions.view_session`, and `sessions.delete_session` to end them.
    """

    #: How many sessions the list counts at most.
    max_count = 1_000_000

    list_display = ("user", "device", "address", "last_seen_at", "signed_in_at", "note")
    list_display_links = None
    list_filter = (UserFilter,)
    search_fields = ("user",)  # shows the box; see get_search_results()
    sortable_by = ()
    paginator = SessionPaginator
    show_full_result_count = False
    # Each facet would count again. For Django from 5.0.
    show_facets = getattr(admin, "ShowFacets", None) and admin.ShowFacets.NEVER  # type: ignore[assignment]
    actions = ("delete_selected",)

    # What it reads

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the sessions of everybody who is signed in."""
        rows = _Rows(self.model)
        rows.wanted = _Wanted(request, self.max_count)
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Return the sessions of the users that are found as in the admin of users.

        A staff member who may not view users there finds them by name only.
        """
        if not search_term.strip():
            return queryset, False
        try:
            found = self._find_users(request, search_term)
        except _BAD_VALUE:
            found = []
        if len(found) == _FOUND_USERS and request.method == "GET":
            text = gettext("Sessions are searched only for the first %(count)d users that match.")
            self.message_user(request, text % {"count": _FOUND_USERS}, messages.WARNING)
        return queryset.asking(queryset.wanted.of(found)), False

    def _find_users(self, request: HttpRequest, search_term: str) -> list[str]:
        if len(search_term) > _SEARCH_LENGTH:
            return []
        model = get_user_model()
        user_admin = self.admin_site._registry.get(model)
        if (
            user_admin is not None
            and user_admin.get_search_fields(request)
            and user_admin.has_view_or_change_permission(request)
        ):
            every = user_admin.get_queryset(request)
            found, _ = user_admin.get_search_results(request, every, search_term)
        else:
            name = {f"{model.USERNAME_FIELD}__icontains": search_term}
            found = model._default_manager.filter(**name)
        pks = found.values_list("pk", flat=True)[:_FOUND_USERS]
        # Not by id_of(): if keys have a default, it takes these objects for users never saved.
        return [str(model._meta.pk.value_to_string(model(pk=pk))) for pk in pks]

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> None:
        """Return None: a session has no page of its own."""
        return None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a session begins with a sign-in."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: only its own requests change a session."""
        return False

    # What it shows

    @admin.display(description=gettext_lazy("user"))
    def user(self, row: Any) -> str:
        """Return the name of the user; the id if there is no such user."""
        return row.line.name  # type: ignore[no-any-return]

    @admin.display(description=gettext_lazy("device"))
    def device(self, row: Any) -> str:
        """Return the browser and what it runs on."""
        return str(row.line.found.shown.device)

    @admin.display(description=gettext_lazy("Address"))
    def address(self, row: Any) -> str | None:
        """Return the address, if it is recorded."""
        return row.line.found.shown.address  # type: ignore[no-any-return]

    @admin.display(description=gettext_lazy("Last seen"))
    def last_seen_at(self, row: Any) -> datetime:
        """Return when the session was last stored."""
        return dates.local(row.line.found.shown.last_seen_at)

    @admin.display(description=gettext_lazy("Signed in"))
    def signed_in_at(self, row: Any) -> datetime:
        """Return when the user signed in."""
        return dates.local(row.line.found.shown.created_at)

    @admin.display(description=gettext_lazy("note"))
    def note(self, row: Any) -> str | None:
        """Return whether it is the request's own session, and why it may not be the user's."""
        return ", ".join(row.line.notes) or None

    # Before Django 5.0, its description is the box that ticks all.
    @admin.display(description=getattr(admin.ModelAdmin.action_checkbox, "short_description", None))
    def action_checkbox(self, obj: Any) -> Any:
        """Return the checkbox of a row, named for those who cannot see the row."""
        return super().action_checkbox(_Named(obj.pk, obj.line.label))

    # How sessions end

    @admin.action(
        permissions=["delete"],
        description=delete_and_confirm.short_description,  # type: ignore[attr-defined]
    )
    def delete_selected(self, request: HttpRequest, queryset: Any) -> Any:
        """End sessions as Django deletes objects, but only as many as fit on one page."""
        if queryset.count() > self.list_max_show_all:
            text = gettext(
                "No more than %(count)d sessions can be ended at once. Search for a user, or run "
                "“manage.py mongosessions revoke”."
            )
            text %= {"count": self.list_max_show_all}
            self.message_user(request, text, messages.ERROR)
            return None
        return delete_and_confirm(self, request, queryset)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, int], set[Any], list[Any]]:
        """Return what the confirmation page lists."""
        labels = [row.line.label for row in objs]
        return labels, {self.opts.verbose_name_plural: len(labels)}, set(), []

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """End sessions, and log it in the history of their users."""
        of_user = defaultdict(list)
        for row in queryset:
            of_user[row.line.found.shown.user_id].append(row.line)
        current = users.current_id(request)
        has_own = False
        for user_id, lines in of_user.items():
            ids = {line.found.document_id for line in lines}
            steps = signed_in.revoke(user_id, _is_one_of(ids), "admin", request, current)
            ended = _run(request, steps)
            has_own |= any(session.is_current for session in ended.sessions)
            if ended.sessions:
                self._log(request, lines[0], ended.sessions)
        if has_own:
            request.session.flush()

    def _log(self, request: HttpRequest, line: _Line, ended: Collection[UserSession]) -> None:
        model = get_user_model()
        change = [
            # Django has translations of this message. It outlives the session, and so it tells
            # nothing of the device.
            {
                "deleted": {
                    "name": self.opts.verbose_name_raw,
                    "object": f"{each.created_at:%Y-%m-%d %H:%M %Z}",
                }
            }
            for each in ended
        ]
        LogEntry.objects.create(
            user_id=request.user.pk,  # type: ignore[misc]  # whoever is here is signed in
            content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
            object_id=line.found.shown.user_id,
            object_repr=line.name[:200],
            action_flag=CHANGE,
            change_message=json.dumps(change),
        )

    def log_deletion(self, request: HttpRequest, obj: Any, object_repr: str) -> None:
        """Log nothing, since delete_queryset() does, of what has ended. For Django before 5.1."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """See log_deletion(). For Django from 5.1."""
        return []


@dataclass(frozen=True)
class _Named:
    """A row as ModelAdmin.action_checkbox() asks for it."""

    pk: str
    label: str

    def __str__(self) -> str:
        return self.label


def _is_one_of(ids: Collection[bytes]) -> Callable[[Found], bool]:
    return lambda found: found.document_id in ids


def _run(request: HttpRequest, steps: Steps[Result]) -> Result:
    return run(steps, users.gate_of(request))


def _users(ids: Collection[str]) -> dict[str, Any]:
    """Return users by their id as text, with one query."""
    model = get_user_model()
    pks = [pk for each in ids if (pk := _pk(model, each)) is not None]
    return {users.id_of(user): user for user in model._default_manager.in_bulk(pks).values()}


def _pk(model: Any, user_id: str) -> Any:
    """Return the primary key that an id as text stands for; None if no database can have it."""
    try:
        pk = model._meta.pk.to_python(user_id)
        model._meta.pk.run_validators(pk)
    except _BAD_VALUE:
        return None
    is_too_large = isinstance(pk, int) and pk.bit_length() > 63  # unchecked in Django 4.2
    return None if is_too_large or "\0" in user_id else pk
