"""Where the tests have their files: apart from what another pytest does meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEST = """
def test_it(tmp_path):
    print(tmp_path)
    assert {passes}
"""


def run(tmp_path: Path, temp: Path, *, passes: bool = True) -> tuple[Path, str]:
    """Run a test beside our conftest.py, with a TMPDIR; returns its directory and what was said."""
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(TEST.format(passes=passes))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"],
        cwd=tmp_path, env={"TMPDIR": str(temp)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) is passes, done.stdout
    return Path(done.stdout.splitlines()[0]), done.stdout


def test_no_other_pytest_has_the_directory_that_tests_open_to_strangers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = tmp_path_factory.getbasetemp()
    assert not [one for one in (base, *base.parents) if one.name.startswith("pytest-of-")]


def test_it_is_in_tmpdir_where_that_is_short_and_goes_where_all_has_passed(tmp_path: Path) -> None:
    temp = tmp_path / ("x" * 200)
    temp.mkdir()
    folder, _ = run(tmp_path, temp)
    assert folder.is_relative_to("/tmp")
    assert not folder.is_relative_to(temp)
    assert not folder.exists()
    assert len(str(folder.parent)) <= 38


def test_it_stays_where_a_test_has_failed(tmp_path: Path) -> None:
    folder, said = run(tmp_path, Path("/tmp"), passes=False)
    assert folder.is_dir(), said
    subprocess.run(["rm", "-r", folder.parent], check=True)
