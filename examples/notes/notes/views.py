"""The board."""

import os

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from .models import Note

SHOWN = 20


class NoteForm(forms.ModelForm):
    """What a visitor writes."""

    class Meta:
        """All that a note has."""

        model = Note
        fields = ("text",)


@require_http_methods(["GET", "HEAD", "POST"])
def board(request: HttpRequest) -> HttpResponse:
    """Show the newest notes, and take another one."""
    form = NoteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("board")
    page = {
        "title": settings.SITE_TITLE,
        "notes": Note.objects.all()[:SHOWN],
        "form": form,
        "generation": os.environ.get("SERVER_STARTER_GENERATION", "none"),
        "pid": os.getpid(),
    }
    return render(request, "board.html", page, status=400 if form.errors else 200)
