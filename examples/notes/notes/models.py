"""What is kept."""

from django.db import models


class Note(models.Model):
    """A line that somebody has left."""

    text = models.CharField(max_length=200)
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        """The newest first."""

        ordering = ("-id",)

    def __str__(self) -> str:
        """Return the text."""
        return str(self.text)
