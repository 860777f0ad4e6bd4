"""A run of some roles alone, by tags: refused where others would have to follow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
SITE = yaml.safe_load((REPOSITORY / "playbooks" / "site.yml").read_text())
APP = {"name": "a", "hosts": ["a.example"], "static": [{"url": "/s/", "directory": "static"}]}
ON_MACHINE = {
    "main": {
        "apps": ["a"],
        "routes": {"a.example": "/run/kechi/main.sock"},
        "static": {"a": ["/srv/www/a/current/static"]},
    }
}
OTHER_STATIC = {"static": [{"url": "/s/", "directory": "public"}]}
FAULT = "main (other directories of static files): so the inventory differs from the machine"


@pytest.fixture
def run(tmp_path):
    """Run site.yml's own check of tags, for a machine whose facts are given."""

    def run(app, *tags):
        check = SITE[0]["tasks"][0]["block"][-1]
        assert "assert" in str(list(check)), "the check of tags is the last task"
        play = {"hosts": "localhost", "gather_facts": False, "tags": ["always"], "tasks": [check]}
        (tmp_path / "site.yml").write_text(yaml.safe_dump([play]))
        variables = {
            "vhost_app_pools": [{"name": "main", "apps": [APP | app]}],
            "kechi_machine": {"pools": ON_MACHINE},
        }
        (tmp_path / "variables.yml").write_text(yaml.safe_dump(variables))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "--inventory=localhost,",
             "--connection=local", f"--extra-vars=@{tmp_path}/variables.yml", *tags,
             tmp_path / "site.yml"],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        )  # fmt: skip
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


@pytest.mark.parametrize("tag", ["--tags=frontend", "--tags=backup,host", "--skip-tags=vhost_app"])
def test_other_static_files_are_refused_where_nginx_or_the_pool_would_be_left_out(run, tag):
    code, said = run(OTHER_STATIC, tag)
    assert code != 0
    assert FAULT in said
    assert "allowed with --tags: vhost_app" in said


@pytest.mark.parametrize(
    "tags", [[], ["--tags=vhost_app"], ["--tags=supervisor"], ["--tags=host"], ["--skip-tags=swap"]]
)
def test_other_static_files_are_done_by_a_run_that_has_all_roles_that_follow_or_none(run, tags):
    code, said = run(OTHER_STATIC, *tags)
    assert code == 0, said


def test_what_nginx_alone_has_may_change_by_its_tag(run):
    code, said = run({"client_max_body_mb": 5}, "--tags=frontend")
    assert code == 0, said
