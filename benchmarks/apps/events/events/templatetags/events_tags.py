"""How seats are told."""

from django import template
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def humanize_free(seats):
    """Say in words whether there is room."""
    return _("Yes") if seats > 0 else _("No")
