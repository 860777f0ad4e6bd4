"""What restic says, read."""

import json
import subprocess

import pytest

from backup_py import restic
from backup_py.errors import BackupError
from backup_py.restic import Repository


def test_snapshots_of_apps_are_read_the_newest_first():
    items = [
        {"short_id": "a1", "hostname": "vps1", "time": "2026-01-01", "tags": ["kechi", "app=blog"]},
        {"short_id": "b2", "hostname": "vps1", "time": "2026-01-02", "tags": ["app=blog"]},
        {"short_id": "c3", "hostname": "vps1", "time": "2026-01-03", "tags": ["kechi"]},
        {"short_id": "d4", "hostname": "vps1", "time": "2026-01-03", "tags": None},
    ]
    found = restic.read_snapshots(json.dumps(items))
    assert [(one.name, one.app) for one in found] == [("b2", "blog"), ("a1", "blog")]
    assert restic.read_snapshots("null") == []


def test_the_new_snapshot_is_read_from_the_summary():
    lines = ['{"message_type":"status"}', '{"message_type":"summary","snapshot_id":"0123456789ab"}']
    assert restic.read_summary("\n".join(lines)) == "01234567"


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A repository, and what restic answers to each command in turn."""
    answers: list[tuple[int, str]] = []
    ran = []

    def run(command, **_how):
        ran.append(command[1])
        code, said = answers.pop(0)
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr("subprocess.run", run)
    remote = {"RESTIC_REPOSITORY": "rest:https://me:hush@host/x", "RESTIC_PASSWORD": "secret"}
    repository = Repository(remote, "vps1", tmp_path)
    return repository, answers, ran


ABSENT = "Fatal: unable to open config file: stat: no such file\nIs there a repository at the..."


@pytest.mark.parametrize("answer", [(1, ABSENT), (10, "gone")])
def test_a_repository_is_made_where_there_was_never_one(there, answer):
    repository, answers, ran = there
    answers += [answer, (0, "")]
    assert not repository.is_known()
    assert repository.prepare()
    assert ran == ["cat", "init"]
    assert repository.is_known()


def test_a_repository_that_was_there_is_not_made_anew(there):
    repository, answers, ran = there
    answers += [(0, ""), (1, ABSENT)]
    assert not repository.prepare()
    with pytest.raises(BackupError, match=r"can't open the repository .* Is there a repository"):
        repository.prepare()
    assert ran == ["cat", "cat"]


@pytest.mark.parametrize("answer", [(1, "Fatal: wrong password or no key found"), (12, "wrong")])
def test_a_wrong_password_makes_no_repository(there, answer):
    repository, answers, ran = there
    answers += [answer]
    with pytest.raises(BackupError, match="wrong"):
        repository.prepare()
    assert ran == ["cat"]
    assert not repository.is_known()


def test_another_password_is_tried_again(there, tmp_path):
    repository, answers, _ran = there
    answers += [(0, "")]
    repository.prepare()
    other = {**repository.environment(), "RESTIC_PASSWORD": "other"}
    assert not Repository(other, "vps1", tmp_path).is_known()


def test_no_password_of_an_address_is_told(there):
    repository, answers, _ran = there
    answers += [(1, "Fatal: Get https://me:hush@host/x/config: refused")]
    with pytest.raises(BackupError) as told:
        repository.prepare()
    assert "hush" not in str(told.value)
    assert "//***@host" in str(told.value)


@pytest.mark.parametrize(
    "said",
    [
        "Fatal: no space\n",
        '{"message_type":"exit_error","code":1,"message":"Fatal: no space"}\n',
        '{"message_type":"error","error":{"message":"Fatal: no space"},"item":"/x"}\n',
    ],
)
def test_what_restic_says_is_told_in_words_by_each_of_its_versions(there, said, tmp_path):
    repository, answers, _ran = there
    answers += [(1, said)]
    with pytest.raises(BackupError, match=r"can't send it to rest:.*: Fatal: no space$"):
        repository.backup("blog", tmp_path, "")


def test_a_restic_that_was_killed_has_a_likely_reason(there):
    repository, answers, _ran = there
    answers += [(-9, "")]
    with pytest.raises(BackupError, match="has it reached backup_memory_max_mb"):
        repository.clear_locks()
