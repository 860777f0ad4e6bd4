from django.urls import path

from . import views

urlpatterns = [
    path("", views.page, name="page"),
    path("form", views.form),
    path("where", views.where),
    path("fail", views.fail),
]
