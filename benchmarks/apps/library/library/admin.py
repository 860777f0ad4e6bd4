"""What the librarians see."""

from django.contrib import admin

from .models import Author, Book, Loan


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    """Books, found by title."""

    list_display = ("title", "author", "year")
    search_fields = ("title",)


admin.site.register([Author, Loan])
