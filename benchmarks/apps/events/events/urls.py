"""Where what is."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("place/<slug:slug>/", views.place, name="place"),
    path("book/<int:number>/", views.book),
    path("calendar.ics", views.calendar),
    path("free.json", views.free),
    path("admin/", admin.site.urls),
]
