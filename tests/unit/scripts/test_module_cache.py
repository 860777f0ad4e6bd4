"""The scenarios' playbooks pack a module once, and anew when anything in it has changed."""

import os
import subprocess
import sys
from pathlib import Path

from shared.callbacks import module_cache

REPOSITORY = Path(__file__).resolve().parents[3]
CALLBACKS = REPOSITORY / "molecule" / "shared" / "callbacks"


def packed(home: Path) -> dict[Path, int]:
    """The modules that are kept, each with the time in ns at which it was packed."""
    found = (home / "kechi" / "modules").glob("*/*ping*")
    return {path: path.stat().st_mtime_ns for path in found if path.suffix != ".lock"}


def ping(home: Path) -> None:
    """Run one module here, by a process of Ansible's."""
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "module_cache",
    }
    play = home / "play.yml"
    play.write_text(
        "[{hosts: localhost, connection: local, gather_facts: false,"
        " tasks: [{ansible.builtin.ping: }]}]"
    )
    program = Path(sys.executable).with_name("ansible-playbook")
    interpreter = f"--extra-vars=ansible_python_interpreter={sys.executable!r}"
    command = [str(program), "--inventory=localhost,", interpreter, str(play)]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def test_a_second_run_finds_what_the_first_one_has_packed(tmp_path: Path) -> None:
    ping(tmp_path)
    first = packed(tmp_path)
    ping(tmp_path)
    assert len(first) == 1
    assert packed(tmp_path) == first


def test_a_change_of_a_module_or_of_what_it_imports_is_packed_anew(tmp_path: Path) -> None:
    keys = {module_cache.key(tmp_path)}
    for file in ("modules/one.py", "module_utils/two.py", "module_utils/within/three.py"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a")
        keys.add(module_cache.key(tmp_path))
        path.write_text("b")
        keys.add(module_cache.key(tmp_path))
    assert len(keys) == 7
    assert module_cache.key(tmp_path) in keys


def test_what_no_run_of_today_has_used_is_forgotten(tmp_path: Path) -> None:
    for name, used in (("old", 1.0), ("new", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module").touch()
        os.utime(tmp_path / name, (used, used))
    module_cache.forget(tmp_path, before=2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
