"""Tracebacks as an app's author wants to see them."""

import importlib
import os
import traceback

OUR_FILES = (os.path.dirname(__file__), os.path.dirname(importlib.__file__))


def of_app(error: BaseException) -> str:
    """Return the traceback without the frames of this server and of the import system."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", *OUR_FILES))
    ]
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format()).rstrip()
