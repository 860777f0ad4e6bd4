"""Six frameworks in one process, each with a small app of the same file names."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from .grouped import GroupSockets
from .harness import Connection, Server, Sockets, get, running, wait_until
from .test_start import refusal

APPS = Path(__file__).parent / "frameworks"
NAMES = ("flask", "django", "bottle", "pyramid", "falcon", "fastapi")


def copy_app(name: str, folder: Path) -> None:
    shutil.copytree(APPS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if name == "django":
        command = [sys.executable, "app.py", "migrate", "--run-syncdb", "--verbosity=0"]
        subprocess.run(command, cwd=folder, check=True, env={"PATH": os.environ["PATH"]})


def write_pool(folder: Path, apps: dict[str, str]) -> Path:
    """Copy apps, by their name in the pool, and write that."""
    pool = '[pool]\nname = "frameworks"\nworkers = 1\nthreads = 4\n'
    for name, framework in apps.items():
        copy_app(framework, folder / name)
        interface = "asgi" if framework == "fastapi" else "wsgi"
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test", "all.test/{name}"]\n'
        pool += f'directory = "{name}"\n{interface} = "app:app"\nenvironment.MINE = "{name}"\n'
    path = folder / "frameworks.toml"
    path.write_text(pool)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("frameworks")
    pool = write_pool(folder, {name: name for name in NAMES})
    with GroupSockets(folder, ["fastapi"]) as sockets, running(pool, sockets) as started:
        yield started


def of(server: Server, app: str) -> str:
    assert isinstance(server.sockets, GroupSockets)
    return server.sockets.of(app)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_comes_from_the_apps_own_template_and_files(server: Server, name: str) -> None:
    for host, prefix in ((f"{name}.test", ""), ("all.test", f"/{name}")):
        page = get(of(server, name), host, f"{prefix}/").body.decode()
        assert f"<title>{name}</title>" in page
        assert f"<h1>{name}</h1>" in page
        assert f"<p>from {name}\n</p>" in page
        assert f'<a href="{prefix}/">' in page


@pytest.mark.parametrize("name", NAMES)
def test_a_form_is_read(server: Server, name: str) -> None:
    with contextlib.closing(Connection(of(server, name))) as connection:
        body = urllib.parse.urlencode({"word": f"wörd {name}"})
        headers = {"Host": f"{name}.test", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/form", body, headers)
        assert json.loads(connection.getresponse().read()) == {"got": f"wörd {name}"}


def test_requests_to_all_at_once_run_each_at_home(server: Server) -> None:
    wrong: list[object] = []

    def client(name: str) -> None:
        for _ in range(10):
            seen = json.loads(get(of(server, name), f"{name}.test", "/where").body)
            home = str(server.sockets.folder / name)
            if seen != {"cwd": home, "name": name, "mine": name}:
                wrong.append((name, seen))

    threads = [threading.Thread(target=client, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_500_with_the_apps_name_before_each_line_of_its_traceback(
    server: Server, name: str
) -> None:
    assert get(of(server, name), f"{name}.test", "/fail").status == 500
    last = f"{name}: RuntimeError: {name} fails"
    wait_until(lambda: last in server.log.read_text().splitlines())
    assert f'{name}:   File "{server.sockets.folder}/{name}/' in server.log.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_that_is_not_there_is_404(server: Server, name: str) -> None:
    assert get(of(server, name), f"{name}.test", "/none").status == 404


def test_two_django_projects_are_refused_with_the_way_out(tmp_path: Path, sockets: Sockets) -> None:
    said = refusal(write_pool(tmp_path, {"shop": "django", "blog": "django"}), sockets)
    assert (
        "the app blog can't be loaded: it is a Django project (project.settings), as is the app"
        " shop (project.settings), and an interpreter can hold one Django settings; give the app an"
        ' interpreter of its own (isolation = "process")'
    ) in said


def test_a_second_django_project_that_fails_on_the_firsts_settings_is_told_so(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = write_pool(tmp_path, {"shop": "django", "blog": "django"})
    with (tmp_path / "blog" / "app.py").open("a") as file:
        file.write("\nfrom django.conf import settings\nsettings.ONLY_BLOG_HAS_IT\n")
    said = refusal(pool, sockets)
    assert "the app blog can't be loaded: it is a Django project (project.settings), as is" in said


def test_at_boot_the_first_django_project_is_served_and_the_second_is_not(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = write_pool(tmp_path, {"shop": "django", "blog": "django", "other": "flask"})
    with running(pool, sockets, SERVER_STARTER_BOOT="1"):
        statuses = [get(sockets.path, f"{n}.test").status for n in ("shop", "blog", "other")]
        assert statuses == [200, 503, 200]


def test_a_django_project_never_runs_on_the_settings_of_one_that_is_broken(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = write_pool(tmp_path, {"shop": "django", "blog": "django", "other": "flask"})
    with (tmp_path / "shop" / "app.py").open("a") as file:
        file.write("\nraise RuntimeError('after its settings were set up')\n")
    with running(pool, sockets, SERVER_STARTER_BOOT="1"):
        statuses = [get(sockets.path, f"{n}.test").status for n in ("shop", "blog", "other")]
        assert statuses == [503, 503, 200]


def test_two_apps_of_one_framework_and_the_same_names_share_its_library_alone(
    tmp_path: Path,
) -> None:
    apps = {f"{name}-{n}": name for name in NAMES if name != "django" for n in (1, 2)}
    asynchronous = [name for name in apps if apps[name] == "fastapi"]
    pool = write_pool(tmp_path, apps)
    for name in apps:
        (tmp_path / name / "config.py").write_text(f'NAME = "{name}"\n')
    with GroupSockets(tmp_path, asynchronous) as sockets, running(pool, sockets):
        for name in apps:
            assert f"<h1>{name}</h1>" in get(sockets.of(name), f"{name}.test").body.decode()
