from django.db import models


class Note(models.Model):
    word = models.CharField(max_length=100)
