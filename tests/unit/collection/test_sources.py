"""Where an app's code comes from: real repositories and archives, as trees of this machine."""

import io
import subprocess
import tarfile
import zipfile

import pytest

from ansible_collections.kechi.vps.plugins.plugin_utils import sources, trees


def git(folder, *words):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def commit(folder, text, *tags):
    (folder / "app.py").write_text(text)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=x")
    for tag in tags:
        git(folder, "tag", tag)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def look(repository, tmp_path):
    """Say what a version has, and what it is said to be of."""

    def run(version):
        wanted = {"git": str(repository), "version": version}
        with sources.found(wanted, tmp_path / "cache") as found:
            return (found.path / "app.py").read_text(), found.origin

    return run


@pytest.fixture
def another_run(monkeypatch):
    numbers = iter(range(1000))
    return lambda: monkeypatch.setattr(sources, "RUN", str(next(numbers)))


def test_a_version_is_a_branch_a_tag_or_a_commit(repository, look):
    first = commit(repository, "1", "v1")
    second = commit(repository, "2")
    assert look("v1") == ("1", f"git v1 ({first[:12]})")
    assert look("main") == ("2", f"git main ({second[:12]})")
    assert look(first) == ("1", f"git {first}")
    assert look(second[:10]) == ("2", f"git {second[:10]}")


def test_what_a_branch_means_is_found_out_once_in_a_run(repository, look, another_run):
    commit(repository, "1")
    another_run()
    assert look("main")[0] == "1"
    commit(repository, "2")
    assert look("main")[0] == "1", "as for the machines before"
    another_run()
    assert look("main")[0] == "2"


def test_a_branch_that_was_forced_and_a_tag_that_was_moved_are_followed(
    repository, look, another_run
):
    commit(repository, "1", "latest")
    look("latest")
    git(repository, "commit", "--quiet", "--amend", "--message=y")
    git(repository, "tag", "--delete", "latest")
    commit(repository, "2", "latest")
    another_run()
    assert (look("latest")[0], look("main")[0]) == ("2", "2")


def test_the_tree_of_a_commit_has_no_repository_and_keeps_run_bits(repository, tmp_path):
    commit(repository, "1")
    with sources.found({"git": str(repository), "version": "main"}, tmp_path / "cache") as found:
        assert sorted(path.name for path in found.path.iterdir()) == ["app.py", "run"]
        assert (found.path / "run").stat().st_mode & 0o100
        assert trees.digest(found.path) == trees.digest(repository)


def test_a_version_that_is_not_there_is_told_with_those_that_are(repository, look):
    commit(repository, "1", "v1")
    with pytest.raises(sources.SourceError, match=r'has no version "v2"; .*: main, v1'):
        look("v2")


def test_nothing_that_a_repository_or_its_owner_has_set_up_runs(
    repository, look, tmp_path, monkeypatch
):
    ran = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    script.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    for hook in ("reference-transaction", "post-checkout", "post-merge", "pre-auto-gc"):
        (tmp_path / "hooks" / hook).symlink_to(script)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[core]\nhooksPath = {tmp_path}/hooks\nfsmonitor = {script}\n"
        f'[filter "evil"]\nsmudge = {script}\nclean = {script}\nrequired = true\n'
    )
    (repository / ".gitattributes").write_text("app.py filter=evil\n")
    commit(repository, "1", "v1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "another"))
    assert look("v1")[0] == "1"
    assert not ran.exists()
    git(repository, "tag", "v2")  # the trap works: without our settings the hook runs
    assert ran.exists()


@pytest.mark.parametrize(
    "url", ["ext::sh -c 'touch RAN'", "--upload-pack=touch RAN", "fd::17/x", "tar::x"]
)
def test_an_address_that_would_run_a_command_is_refused(tmp_path, monkeypatch, url):
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ext:fd:tar")
    url = url.replace("RAN", str(tmp_path / "ran"))
    with (
        pytest.raises(sources.SourceError, match="`git fetch` failed"),
        sources.found({"git": url, "version": "main"}, tmp_path / "cache"),
    ):
        pass
    assert not (tmp_path / "ran").exists()


def test_a_repository_that_can_not_be_fetched_is_told(tmp_path):
    wanted = {"git": str(tmp_path / "nowhere"), "version": "main"}
    with (
        pytest.raises(sources.SourceError, match=r"`git fetch` failed: .*nowhere"),
        sources.found(wanted, tmp_path / "cache"),
    ):
        pass


def make_tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


@pytest.mark.parametrize("top", ["", "blog-1.0/"])
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_without_the_directory_that_is_alone_at_its_top(tmp_path, kind, top):
    path = tmp_path / f"blog.{kind}"
    files = {f"{top}app.py": "x", f"{top}pkg/mod.py": "y"}
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, text in files.items():
                packed.writestr(name, text)
    else:
        make_tar(path, files)
    with sources.found({"archive": str(path)}, tmp_path) as found:
        names = [file.name for file in trees.files(found.path)]
        assert names == ["app.py", "pkg/mod.py"]
        assert found.origin == path.name


def test_an_archive_that_reaches_out_of_its_directory_is_refused(tmp_path):
    path = tmp_path / "bad.tar.gz"
    make_tar(path, {"../escaped": "x"})
    with (
        pytest.raises(sources.SourceError, match=r"can't be unpacked: the name '\.\./escaped'"),
        sources.found({"archive": str(path)}, tmp_path),
    ):
        pass
    assert not (tmp_path / "escaped").exists()


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / "app.tar.gz").write_text("no")
    with (
        pytest.raises(sources.SourceError, match="can't be unpacked"),
        sources.found({"archive": str(tmp_path / "app.tar.gz")}, tmp_path),
    ):
        pass


def test_a_wheel_is_sent_as_it_is_and_apart_from_code(tmp_path):
    path = tmp_path / "app-1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    with sources.found({"wheel": str(path)}, tmp_path) as found:
        assert [file.name for file in trees.files(found.path)] == [path.name]
        assert found.inside == ".wheel"
