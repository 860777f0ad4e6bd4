"""Pages, and a calendar file."""

from django.core.paginator import Paginator
from django.db.models import Count, F, Sum
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from .models import Event, Place


def index(request):
    """List what comes next."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    found = Event.objects.select_related("place").order_by("begins")
    page = Paginator(found, 15).get_page(request.GET.get("page"))
    values = {"page": page, "heading": _("Yes"), "visits": request.session["visits"]}
    return render(request, "events/index.html", values)


def place(request, slug):
    """Show one place, and how full it is."""
    found = get_object_or_404(Place, slug=slug)
    events = found.events.order_by("begins")[:25]
    totals = found.events.aggregate(taken=Sum("taken"), events=Count("id"))
    values = {"place": found, "events": events, "totals": totals}
    return render(request, "events/place.html", values)


@require_POST
def book(_request, number):
    """Take a seat."""
    Event.objects.filter(pk=number, taken__lt=F("place__seats")).update(taken=F("taken") + 1)
    return redirect("index")


def calendar(_request):
    """Return the next events for a calendar."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0"]
    for event in Event.objects.order_by("begins")[:40]:
        lines += ["BEGIN:VEVENT", f"UID:{event.pk}", f"SUMMARY:{event.title}"]
        lines += [f"DTSTART:{event.begins:%Y%m%dT%H%M%SZ}", "END:VEVENT"]
    lines.append("END:VCALENDAR")
    return HttpResponse("\r\n".join(lines), content_type="text/calendar")


def free(_request):
    """Return what is not sold out, as JSON."""
    found = Event.objects.filter(taken__lt=F("place__seats")).select_related("place")[:30]
    return JsonResponse({"free": [{"title": one.title, "seats": one.free} for one in found]})
