"""A page from a template, a form whose word goes through the database, and where it runs."""

import os
from pathlib import Path

import config
from django.http import JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from .models import Note


def page(request):
    text = Path("name.txt").read_text()
    return render(
        request, "notes/page.html", {"name": config.NAME, "text": text, "link": reverse("page")}
    )


@csrf_exempt
def form(request):
    Note.objects.create(word=request.POST["word"])
    return JsonResponse({"got": Note.objects.last().word})


def where(_request):
    import late

    return JsonResponse({"cwd": str(Path.cwd()), "name": late.NAME, "mine": os.environ["MINE"]})


def fail(_request):
    raise RuntimeError(f"{config.NAME} fails")
