"""What the admin page of a user needs to link to the user's sessions."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import RequestContext
from django.urls import reverse
from django.utils.http import urlencode

from django_mongo_sessions import users

register = template.Library()


@register.simple_tag(takes_context=True)
def user_sessions_url(context: RequestContext) -> str:
    """Return the URL of the sessions of the user whose page this is.

    It is empty if the admin site has no list of sessions, or if the user may not view the list.
    """
    # Django imports every library of tags, also if the site has no admin.
    from django_mongo_sessions.modeladmin import SessionAdmin

    site = context["adminform"].model_admin.admin_site
    for each in site._registry.values():
        if isinstance(each, SessionAdmin) and each.has_view_permission(context.request):
            name = f"admin:{each.opts.app_label}_{each.opts.model_name}_changelist"
            asked: dict[str, Any] = {"user": users.id_of(context["original"])}
            return f"{reverse(name, current_app=site.name)}?{urlencode(asked)}"
    return ""
