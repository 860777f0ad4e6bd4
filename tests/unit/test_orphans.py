"""What /proc says of processes, and that its functions keep what they say of themselves."""

import ast
import os
import re
import socket
from pathlib import Path

from supervisor_py import orphans

PACKAGE = Path(orphans.__file__).parent
# In the words of this house: "…, or None", "None when …", "None for …", "None if …".
_PROMISES_NONE = re.compile(r"\bor None\b|\bNone (when|for|if|where)\b")


def test_the_sockets_of_a_process_are_told_by_their_fds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        held = orphans.held_by(os.getpid())
        assert held[one.fileno()] == os.fstat(one.fileno()).st_ino


def test_a_process_that_is_gone_holds_nothing_and_was_given_nothing() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert orphans.held_by(pid) == {}
    assert orphans.environment(pid) == [b""]
    assert orphans.read(pid, "stat") == b""


def _returning_none(source: str) -> list[str]:
    """Return the functions whose docstring promises a None that their annotation excludes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            said, returns = ast.get_docstring(node) or "", ast.unparse(node.returns)
            if _PROMISES_NONE.search(said) and "None" not in returns:
                found.append(node.name)
    return found


def test_no_function_promises_a_none_that_it_does_not_return() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    assert {file.name: _returning_none(file.read_text()) for file in files} == {
        file.name: [] for file in files
    }
    was = 'def held_by(pid) -> dict:\n    """Return them. None when it is gone."""'
    assert _returning_none(was) == ["held_by"]
