"""Headers that tell which process has answered."""

import os
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


def name_the_server(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Name the generation and the worker."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Generation"] = os.environ.get("SERVER_STARTER_GENERATION", "none")
        response["X-Pid"] = str(os.getpid())
        return response

    return middleware
