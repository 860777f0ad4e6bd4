"""Rooms and who is in them when."""

from datetime import date, time, timedelta

from django.db import models


class Doctor(models.Model):
    """Who is asked."""

    name = models.CharField(max_length=100)
    room = models.CharField(max_length=20)


class Appointment(models.Model):
    """Who comes when, and why."""

    doctor = models.ForeignKey(Doctor, models.CASCADE, related_name="appointments")
    day = models.DateField(db_index=True)
    begins = models.TimeField()
    patient = models.CharField(max_length=100)
    reason = models.CharField(max_length=200, blank=True)


def prepare():
    """Fill an empty database."""
    doctors = Doctor.objects.bulk_create(
        Doctor(name=f"Dr. {letter}", room=f"{number}.01") for number, letter in enumerate("ABCDEF")
    )
    began = date(2026, 3, 2)
    Appointment.objects.bulk_create(
        Appointment(
            doctor=doctors[number % 6],
            day=began + timedelta(days=number // 48),
            begins=time(8 + number // 6 % 8, 30),
            patient=f"Patient {number}",
            reason="cough" if number % 2 else "",
        )
        for number in range(480)
    )
