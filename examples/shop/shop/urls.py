"""The shelf, and the admin that fills it."""

from django.contrib import admin
from django.urls import path

from .views import shelf

urlpatterns = [path("", shelf, name="shelf"), path("admin/", admin.site.urls)]
