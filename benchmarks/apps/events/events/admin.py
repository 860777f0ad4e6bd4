"""What the town hall sees."""

from django.contrib import admin

from .models import Event, Place

admin.site.register([Event, Place])
