"""Each code block of the pages that a newcomer reads, run literally, in order, as they would.

What is another's there than in the page is in REPLACED, and nowhere else. A block that is not run
says why in its page, in a comment before it.
"""

from __future__ import annotations

import re
import time

import pytest
from newcomer import REPOSITORY, Newcomer

from harness import code_blocks
from shared import reach

README, DEPLOY = "README.md", "docs/deploy.md"
BACKUP, EXAMPLES = "docs/backup.md", "examples/README.md"
SITE = ".venv/bin/ansible-playbook -i inventory/mine playbooks/site.yml"
PASSWORD = "!vault |     # ansible-vault encrypt_string --name backup_restic_password"
VAULTED = "  $ANSIBLE_VAULT;1.1;AES256\n  ...\n"
ADDRESS, RELEASE = "203.0.113.10", "release=0f3a"  # what stands for these is known in a run only
SERVE = ".venv/bin/vhost_server examples/pool.toml"
ASK = "curl -so /dev/null -H 'Host: blog.localhost' http://127.0.0.1:8080/"
HUP = 'kill -HUP "$(cat /tmp/pool.pid)"'
NO_QUESTIONS = "--noinput --username=you --email=you@example.org"
# what is written in a page, and what stands for it here
REPLACED = {
    # which would go on until Ctrl-C
    "shared_memory_size --watch main": "timeout 3 shared_memory_size --watch main || test $? = 124",
    f"-- {SERVE}\n": f"-- {SERVE} >/tmp/log 2>&1 </dev/null &\nuntil {ASK}; do sleep 1; done\n",
    # which a newcomer lets run in another terminal
    "slow?seconds=10'    # and meanwhile:": "slow?seconds=1' &",
    HUP: f"{HUP}; wait",
    # which would ask
    "--pty": "--pipe --setenv=DJANGO_SUPERUSER_PASSWORD=of-a-test",
    "manage.py createsuperuser": f"manage.py createsuperuser {NO_QUESTIONS}",
    # there is no other machine to send copies to, and no vault
    "sftp:backup@backup.example.org:/srv/restic/vps1": "/var/backups/restic",
    PASSWORD: "of a test",
    VAULTED: "",
}
SITES = {"blog.example.org": "No posts yet.", "shop.example.org": "Nothing is on the shelf yet."}


@pytest.fixture(scope="session")
def host(node):
    """The VPS: a test that fails shows its journal."""
    return node("kechi-newcomer-vps1")


@pytest.fixture(scope="session")
def newcomer(node, host):
    found = Newcomer(node("kechi-newcomer-home"), host)
    found.clone()
    found.lend_packages()
    found.log_in_once()
    return found


@pytest.fixture(scope="session")
def replaced():
    """What of REPLACED has been met."""
    return set()


@pytest.fixture(scope="session")
def follow(newcomer, replaced):
    """Follow a page's blocks; returns each with what it printed."""

    def run(page, section="", **found):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        replacements = {**REPLACED, ADDRESS: reach.network_address(newcomer.vps), **found}
        followed = []
        for block in code_blocks.blocks(text, section):
            began = time.monotonic()
            followed.append((block, newcomer.follow(block, replacements, replaced)))
            print(f"{page}:{block.line}: {time.monotonic() - began:.0f} s")
        return followed

    return run


def ask(newcomer, host, path="/"):
    """Get a page by HTTPS from the VPS, as the newcomer."""
    address = reach.network_address(newcomer.vps)
    resolve = f"--resolve {host}:443:{address}"
    return newcomer.run(f"curl -sSk --fail {resolve} https://{host}{path}")


def recaps(said):
    """The counts of each playbook's last lines."""
    return [
        {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}
        for line in re.findall(r"^vps1 +: (.*)$", said, re.MULTILINE)
    ]


def test_the_readme_leads_to_a_vps_that_serves(newcomer, follow):
    said = follow(README, "A real VPS")
    (checked,) = [told for block, told in said if SITE in block.text]
    assert re.findall(r"^(\S+) +: ok=", checked, re.MULTILINE) == ["vps1"] * 2, (
        "no secret is a host"
    )
    for host, text in SITES.items():
        assert text in ask(newcomer, host)
    style = re.search(r'href="(/static/shop/shop\.\w+\.css)"', ask(newcomer, "shop.example.org"))
    assert "max-width" in ask(newcomer, "shop.example.org", style[1])
    (machine,) = [told for block, told in said if "kechi-certificates --list" in block.text]
    assert re.search(r"^blog is self-signed: ", machine, re.MULTILINE)
    assert "All 2 apps can be served." in machine


def test_a_second_run_checks_the_same_and_changes_nothing(newcomer):
    for options in ("--check --diff", ""):
        said = newcomer.run(f"{SITE} {options}")
        (counts,) = recaps(said)
        assert counts["changed"] == counts["failed"] == counts["unreachable"] == 0, said


def test_new_code_is_deployed_and_rolled_back_as_the_page_says(newcomer, follow):
    releases = "/srv/www/blog/releases"
    (first,) = newcomer.vps.check_output(f"ls {releases}").split()
    newcomer.run("echo '<!-- second -->' >>~/src/blog/blog/templates/index.html")
    # the page's first line makes the release that its last one names
    address = reach.network_address(newcomer.vps)
    second = f"ssh admin@{address} sudo ls {releases} | grep -v {first} | cut -c-6"
    said = follow(DEPLOY, **{RELEASE: f"release=$({second})"})
    changed = [counts["changed"] for counts in recaps(said[0][1])]
    assert [count > 0 for count in changed] == [True, False, True, True], changed
    assert "<!-- second -->" in ask(newcomer, "blog.example.org"), "back, and to the named one"
    journal = newcomer.vps.check_output("journalctl --no-pager --output=cat --unit=kechi@main")
    assert "to old workers:" in journal
    assert not re.search(r"sleeping \d+ secs", journal), "this server says when it is ready"
    (made,) = [told for block, told in said if "createsuperuser" in block.text]
    assert "Superuser created successfully" in made


def test_a_run_of_one_tag_does_all_that_follows_or_nothing(newcomer):
    hosts = "inventory/mine/host_vars/vps1.yml"
    newcomer.run(f"sed -i 's,www.blog.example.org,neu.example.org,' {hosts}")
    refused = newcomer.run(f"! {SITE} --tags frontend")
    assert "main (other hosts or sockets): so the inventory differs" in " ".join(refused.split())
    newcomer.run(f"{SITE} --tags vhost_app")
    assert SITES["blog.example.org"] in ask(newcomer, "neu.example.org")


def test_backups_are_made_and_restored_as_the_page_says(newcomer, follow):
    said = follow(BACKUP)
    (restored,) = [told for block, told in said if "restore.yml" in block.text]
    assert "kechi@main.service was restarted" in restored
    newcomer.vps.check_output("ls -d /srv/www/blog/shared.before-*")
    assert SITES["blog.example.org"] in ask(newcomer, "blog.example.org")


def test_the_examples_run_by_hand_as_their_page_says(newcomer, follow):
    said = follow(EXAMPLES)
    (answers,) = [told for block, told in said if "curl" in block.text]
    assert "A blog" in answers
    assert answers.endswith("done\n"), "the slow answer was finished"
    newcomer.run("kill $(cat /tmp/pool.pid)")


def test_all_that_is_replaced_is_in_a_page(replaced):
    assert set(REPLACED) <= replaced
