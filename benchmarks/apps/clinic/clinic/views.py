"""The plan of a day, of a doctor, and a form for a new appointment."""

from datetime import date

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.shortcuts import get_object_or_404, redirect, render

from .models import Appointment, Doctor


class AppointmentForm(forms.Form):
    """What is asked at the desk."""

    doctor = forms.ModelChoiceField(Doctor.objects.order_by("name"))
    day = forms.DateField()
    begins = forms.TimeField()
    patient = forms.CharField(max_length=100)


def today(request):
    """Show all appointments of a day."""
    day = date.fromisoformat(request.GET.get("day", "2026-03-02"))
    found = Appointment.objects.filter(day=day).select_related("doctor").order_by("begins")
    return render(request, "clinic/day.html", {"day": day, "appointments": found})


def doctors(request):
    """Show how busy everybody is."""
    found = Doctor.objects.annotate(count=Count("appointments")).order_by("name")
    return render(request, "clinic/doctors.html", {"doctors": found})


def doctor(request, number):
    """Show the plan of one doctor."""
    found = get_object_or_404(Doctor, pk=number)
    coming = found.appointments.order_by("day", "begins")[:30]
    return render(request, "clinic/doctor.html", {"doctor": found, "appointments": coming})


def new(request):
    """Show the form, or take it."""
    form = AppointmentForm(request.POST or None)
    if form.is_valid():
        Appointment.objects.create(**form.cleaned_data)
        messages.success(request, "Written down.")
        return redirect("/")
    return render(request, "clinic/new.html", {"form": form})
