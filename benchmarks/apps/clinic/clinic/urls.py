"""Where what is."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("", views.today),
    path("doctors/", views.doctors),
    path("doctor/<int:number>/", views.doctor, name="doctor"),
    path("new/", views.new, name="new"),
    path("admin/", admin.site.urls),
]
