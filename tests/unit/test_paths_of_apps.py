"""Whoever runs as root opens, changes or removes what an app could replace by one module's ways.

A call of those below, in a module that knows of such a path, is an error unless it is listed here
with the reason why no app can have a say in what it reaches.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("plugins/modules", "plugins/module_utils", "backup_py", "supervisor_py")
# of the pool itself, or of who types it: not root for an app
OTHERS = ("supervisor_py/vhost/", "supervisor_py/crawlers/")
CALLS = frozenset(
    """
    open chown lchown chmod lchmod rename replace read_text read_bytes write_text write_bytes
    rmtree copytree copy2 copyfile move unlink remove rmdir mkdir makedirs touch truncate symlink
    symlink_to link hardlink_to utime
    """.split()  # noqa: SIM905 - a page of them as a list
)
OF_APPS = re.compile(
    r'/run/kechi-|/shared\b|"shared"|/srv/www|\.before-|pid.file|status.file|APPS\b'
)
ALWAYS = ("backup_py/",)  # all of it works on what is apps'
SAFE = frozenset({"safe_paths"})  # safe_paths.open_file and the like
PRIVATE = "in a directory of root's: "
AS_APP = "as the app's user, who can reach nothing that the app can't: "
ALLOWED = {
    "plugins/modules/pool_state.py:act": PRIVATE + "units, and the notes in /run/kechi/notes",
    "plugins/modules/pool_state.py:_note": PRIVATE + "/etc/kechi/pools",
    "plugins/modules/pool_state.py:_made_of": PRIVATE + "/etc/kechi/pools",
    "plugins/modules/pool_state.py:running": PRIVATE + "/run/kechi/notes",
    "plugins/modules/pool_state.py:digest": PRIVATE + "units, code of ours, /etc/kechi/env",
    "plugins/modules/pool_info.py:_text": PRIVATE + "units and pool files",
    "plugins/modules/release_sets.py:*": PRIVATE + "/srv/kechi",
    "plugins/module_utils/access.py:*": PRIVATE + "/srv/www/APP without `shared`, and /srv/kechi",
    "plugins/modules/release.py:*": PRIVATE + "/srv/www/APP without `shared`, and /usr/local/lib",
    "plugins/modules/virtualenvs.py:*": PRIVATE + "/srv/kechi",
    "plugins/modules/files.py:file": "after `_require_ours`",
    "plugins/modules/files.py:absent": "after `_require_ours`",
    "plugins/modules/files.py:_write": "after `_require_ours`",
    "plugins/module_utils/releases.py:*": PRIVATE + "/srv/www/APP without `shared`, and others",
    "plugins/module_utils/release_sets.py:*": PRIVATE + "/srv/kechi and units",
    "plugins/module_utils/hooks.py:*": "a temporary file of root's",
    "plugins/module_utils/snapshot.py:_seen": PRIVATE + "of `shared` itself its state alone",
    "plugins/module_utils/snapshot.py:take": PRIVATE + "of `shared` itself its state alone",
    "backup_py/jobs.py:alone": PRIVATE + "the state directory",
    "backup_py/locks.py:*": PRIVATE + "/run/kechi/locks",
    "plugins/module_utils/locks.py:*": PRIVATE + "/run/kechi/locks",
    "backup_py/jobs.py:_keep_here": PRIVATE + "the backups",
    "backup_py/jobs.py:_copy_into": PRIVATE + "from the backups to the stage",
    "backup_py/database.py:_pages_of_a_step": AS_APP + "its database",
    "backup_py/restic.py:*": PRIVATE + "the state directory",
    "backup_py/settings.py:_load": PRIVATE + "/etc/kechi",
    "backup_py/store.py:*": PRIVATE + "the backups",
    "backup_py/tree.py:copy": PRIVATE + "the copy; what is copied is open",
    "backup_py/tree.py:entry": PRIVATE + "the copy; what is copied is open",
    "backup_py/tree.py:_file": PRIVATE + "the copy; what is copied is open",
    "backup_py/tree.py:_share_if_equal": PRIVATE + "the copy",
    "backup_py/tree.py:_attributes": PRIVATE + "the copy",
    "backup_py/restore.py:clear": PRIVATE + "the stage",
    "backup_py/restore.py:make_ready": PRIVATE + "the stage, mode 0700",
    "backup_py/restore.py:swap": PRIVATE + "/srv/www/APP, in which `shared` is a name",
    "backup_py/restore.py:_files": PRIVATE + "the stage, mode 0700",
    "backup_py/restore.py:_require_sound": PRIVATE + "the stage, mode 0700",
    "backup_py/restore.py:_give_to": PRIVATE + "the stage, mode 0700",
    "backup_py/restore.py:_drop_in": PRIVATE + "/run/systemd/system",
    "plugins/modules/firewall.py:*": PRIVATE + "/run/kechi-firewall",
    "plugins/modules/machine_facts.py:*": PRIVATE + "/etc; and of /proc and /sys",
    "supervisor_py/status.py:*": "with --user as that user, else by who typed it",
    "supervisor_py/status_files.py:_user_of": "of /proc",
    "supervisor_py/clients.py:_connect": "the last part of a path, by descriptor and O_NOFOLLOW",
    "supervisor_py/settings.py:*": "str.replace",
    "supervisor_py/checks.py:*": "asks, and opens programs that would be run as the same user",
    "supervisor_py/takeover.py:_lines": "of /proc",
    "supervisor_py/unixpath.py:*": "with --user as that user, else by who typed it",
    "supervisor_py/serve.py:_serve": "within `_making`",
    "supervisor_py/serve.py:_run": "within `_making`",
    "supervisor_py/serve.py:_fill_standard_fds": "/dev/null",
    "supervisor_py/users.py:give": "where root alone can change the way, by O_NOFOLLOW",
    "supervisor_py/shared_memory_size/cli.py:main": "/dev/null",
    "supervisor_py/handover.py:*": "a file without a name",
    "supervisor_py/listeners.py:*": "within `making`, and lists' own `remove`",
    "supervisor_py/shared_memory_size/sample.py:_name": "of /proc",
    "supervisor_py/loop.py:*": "after root is given up",
}


def modules():
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            if not name.startswith(OTHERS) and path.name != "safe_paths.py":
                yield name


def calls(text: str) -> set[str]:
    """The functions with a call of that kind; a lambda or a module's own level by `<module>`."""
    found = set()

    def look(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.Call):
                called = child.func
                name = called.attr if isinstance(called, ast.Attribute) else ""
                name = called.id if isinstance(called, ast.Name) else name
                owner = called.value if isinstance(called, ast.Attribute) else None
                is_safe = isinstance(owner, ast.Name) and owner.id in SAFE
                # what has a descriptor of its directory is by no path, nor is what replaces text
                by_fd = any((one.arg or "").endswith("dir_fd") for one in child.keywords)
                of_text = name == "replace" and len(child.args) == 2
                if name in CALLS and not (is_safe or by_fd or of_text):
                    found.add(inner)
            look(child, inner)

    look(ast.parse(text), "<module>")
    return found


def unlisted(name: str, text: str) -> list[str]:
    if not (OF_APPS.search(text) or name.startswith(ALWAYS)):
        return []
    return [
        f"{name}:{function}"
        for function in sorted(calls(text))
        if f"{name}:{function}" not in ALLOWED and f"{name}:*" not in ALLOWED
    ]


@pytest.mark.parametrize("name", modules())
def test_what_could_be_an_apps_is_reached_by_safe_paths_alone(name):
    found = unlisted(name, (REPOSITORY / name).read_text())
    assert found == [], "use safe_paths, or list it here with the reason why no app has a say in it"


@pytest.mark.parametrize(
    "code",
    [
        'def f():\n    Path("/run/kechi-x/y").write_text("")',
        'def f():\n    os.chown(f"/srv/www/{app}/shared/media", 0, 0)',
        'def f():\n    with open("/run/kechi-evil/pid") as file:\n        file.read()',
        'def f():\n    shutil.rmtree(APPS / "x")',
    ],
)
def test_a_new_one_is_found(code):
    assert unlisted("plugins/modules/new.py", code) == ["plugins/modules/new.py:f"]


def test_what_goes_by_a_descriptor_is_not_by_a_path():
    code = 'def f():\n    os.unlink("shared", dir_fd=3)\n    safe_paths.open_file("/srv/www/x", 0)'
    assert unlisted("plugins/modules/new.py", code) == []
