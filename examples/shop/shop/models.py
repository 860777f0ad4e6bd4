"""What is sold."""

from django.db import models


class Item(models.Model):
    """One of the goods."""

    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        """Return the name."""
        return str(self.name)
