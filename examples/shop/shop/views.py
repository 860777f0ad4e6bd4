"""The one page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .models import Item


def shelf(request: HttpRequest) -> HttpResponse:
    """Show what there is."""
    return render(request, "shelf.html", {"items": Item.objects.all()})
