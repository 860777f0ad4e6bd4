"""What readers see."""

from django import forms
from django.db.models import Count
from django.views.generic import DetailView, FormView, ListView

from .models import Author, Book, Loan


class Books(ListView):
    """All books, page by page, and how many the reader has looked at."""

    queryset = Book.objects.select_related("author")
    paginate_by = 20

    def get_context_data(self, **values):
        """Tell what the session knows."""
        return super().get_context_data(seen=len(self.request.session.get("seen", [])), **values)


class OneBook(DetailView):
    """One book and its loans."""

    queryset = Book.objects.select_related("author").prefetch_related("loans")

    def get_object(self, queryset=None):
        """Remember in the session that the reader has seen it."""
        found = super().get_object(queryset)
        self.request.session["seen"] = [*self.request.session.get("seen", []), found.pk][-10:]
        return found


class Authors(ListView):
    """All authors, with the number of their books."""

    queryset = Author.objects.annotate(written=Count("books")).order_by("-written", "name")


class LoanForm(forms.ModelForm):
    """What is asked of who borrows."""

    class Meta:
        """All that a loan is."""

        model = Loan
        fields = ("book", "reader", "until")


class Borrow(FormView):
    """A form for a loan."""

    form_class = LoanForm
    template_name = "library/borrow.html"
    success_url = "/"

    def form_valid(self, form):
        """Keep the loan."""
        form.save()
        return super().form_valid(form)
