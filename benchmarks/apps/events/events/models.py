"""Places, and what happens there."""

from datetime import UTC, datetime, timedelta

from django.db import models


class Place(models.Model):
    """Where something happens."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    seats = models.PositiveIntegerField()


class Event(models.Model):
    """What happens."""

    title = models.CharField(max_length=200)
    place = models.ForeignKey(Place, models.CASCADE, related_name="events")
    begins = models.DateTimeField(db_index=True)
    text = models.TextField()
    taken = models.PositiveIntegerField(default=0)

    @property
    def free(self):
        """Return how many seats are left."""
        return self.place.seats - self.taken


def prepare():
    """Fill an empty database."""
    places = Place.objects.bulk_create(
        Place(slug=f"hall-{number}", name=f"Hall {number}", seats=40 + number)
        for number in range(12)
    )
    began = datetime(2026, 1, 1, 19, 30, tzinfo=UTC)
    Event.objects.bulk_create(
        Event(
            title=f"Concert {number}",
            place=places[number % 12],
            begins=began + timedelta(days=number),
            text="Strings, and a drum. " * 12,
            taken=number % 40,
        )
        for number in range(300)
    )
