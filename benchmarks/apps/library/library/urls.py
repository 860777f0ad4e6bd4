"""Where what is."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("", views.Books.as_view()),
    path("book/<int:pk>/", views.OneBook.as_view(), name="book"),
    path("authors/", views.Authors.as_view()),
    path("borrow/", views.Borrow.as_view(), name="borrow"),
    path("admin/", admin.site.urls),
]
