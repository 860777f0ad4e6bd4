"""What strangers' programs say is read to its end, and only the end of it is kept."""

import sys
from pathlib import Path

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import bounded

MB = 1 << 20


def test_a_command_is_run_as_a_module_runs_one() -> None:
    words = ["sh", "-c", "cat; echo err >&2; exit 3"]
    assert bounded.run(words, data="told\n") == (3, "told\n", "err\n")
    assert bounded.run(["cat"]) == (0, "", ""), "nothing to read is no wait"


def test_a_command_that_does_not_read_what_it_is_told_is_none_that_fails() -> None:
    assert bounded.run(["true"], data="x" * MB) == (0, "", "")


def test_a_command_that_is_not_there_is_said(tmp_path: Path) -> None:
    rc, _, err = bounded.run([f"{tmp_path}/none"])
    assert (rc, err) == (127, f"{tmp_path}/none can't be run: No such file or directory")


def test_a_command_speaks_the_language_that_we_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert bounded.run(["sh", "-c", "echo $LC_ALL"]) == (0, "C.UTF-8\n", "")


def test_the_last_lines_are_kept() -> None:
    code = "for number in range(100000): print(number)"
    _, out, _ = bounded.run([sys.executable, "-c", code], most_bytes=1000, most_of_a_line=100)
    assert out.splitlines()[-3:] == ["99997", "99998", "99999"]
    assert len(out) <= 1000


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_without_an_end_is_cut(end: str) -> None:
    tail = bounded.Tail(most_of_a_line=10)
    for _ in range(50):
        tail.feed(b"abc")
    tail.feed(end.encode())
    assert tail.text() == f"abcabcabca...{end}"
    tail.feed(b"next\n")
    assert tail.text().endswith("next\n" if end else "...\n")


def test_lines_stay_whole_however_they_are_read() -> None:
    tail = bounded.Tail()
    for part in (b"on", b"e\ntw", b"o", b"\n\nthree"):
        tail.feed(part)
    assert tail.text() == "one\ntwo\n\nthree"


def test_what_a_program_says_takes_no_memory_of_ours() -> None:
    """More than there is room for: AnsibleModule would hold all of it."""
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({300 * MB}, {300 * MB}))
sys.path[:] = {sys.path!r}
from ansible_collections.kechi.vps.plugins.module_utils import bounded
for zeros in ("/dev/zero", "<(yes)"):
    rc, out, err = bounded.run(["bash", "-c", "head -c {350 * MB} " + zeros + " | tee /dev/stderr"])
    assert rc == 0 and len(out) <= {MB} and len(err) <= {MB}, (rc, len(out), len(err))
print("done")
"""
    rc, out, err = bounded.run([sys.executable, "-c", code])
    assert (rc, out) == (0, "done\n"), err
