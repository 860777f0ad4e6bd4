"""Books, who wrote them, and who has them."""

from datetime import date, timedelta

from django.db import models


class Author(models.Model):
    """Who wrote."""

    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class Book(models.Model):
    """What was written."""

    title = models.CharField(max_length=200, db_index=True)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    year = models.PositiveSmallIntegerField()
    about = models.TextField(blank=True)

    class Meta:
        """Books stand by title."""

        ordering = ("title",)

    def __str__(self):
        return self.title


class Loan(models.Model):
    """Who has a book until when."""

    book = models.ForeignKey(Book, models.CASCADE, related_name="loans")
    reader = models.CharField(max_length=100)
    until = models.DateField()


def prepare():
    """Fill an empty database."""
    authors = Author.objects.bulk_create(Author(name=f"Author {number}") for number in range(30))
    books = Book.objects.bulk_create(
        Book(
            title=f"The {number}th river",
            author=authors[number % 30],
            year=1900 + number % 120,
            about="It flows, and it is long. " * 10,
        )
        for number in range(240)
    )
    day = date(2026, 1, 1)
    Loan.objects.bulk_create(
        Loan(book=book, reader=f"Reader {book.year}", until=day + timedelta(days=book.year % 60))
        for book in books[::3]
    )
