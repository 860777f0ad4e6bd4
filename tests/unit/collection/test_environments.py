"""Environments of apps: systemd reads what was written, and a diff shows no value."""

import subprocess

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import environments

SECRETS = {"KEY": 's3"c\\$ret`%h', "LINES": "a\nKEY2=b\n[x]", "EMPTY": "", "WORD": "ケチ", "N": 1}
POOL = """# by the role
[pool]
workers = 1

[[apps]]
name = "{name}"
wsgi = "a:b"

[apps.environment]
KEY = "{value}"
OTHER = "x = \\"[y]\\""

[[apps]]
name = "second"
"""


def hidden():
    return environments.Hidden(b"salt")


@pytest.mark.parametrize("name", [*SECRETS, "Environment"])
def test_a_diff_shows_names_and_no_values(name):
    value = SECRETS.get(name, "s3cret")
    shown = hidden().file(environments.lines({name: value, "LAST": "last"}))
    assert [line.split("=")[0] for line in shown.splitlines()] == [name, "LAST"]
    assert [line.split("=")[1][:9] for line in shown.splitlines()] == ["(hidden: "] * 2


def test_of_a_pool_file_all_but_the_values_is_shown():
    shown = hidden().pool_file(POOL.format(name="blog", value="s3cret"))
    assert "s3cret" not in shown
    assert "[y]" not in shown
    for line in ("[pool]", "workers = 1", 'name = "blog"', 'wsgi = "a:b"', 'name = "second"'):
        assert line in shown.splitlines()
    assert "\nKEY=(hidden: " in shown


def test_what_units_had_once_is_hidden_too():
    old = 'Environment="KECHI_COMMAND=/bin/x"\nEnvironment="TOKEN=s3cret = \\"x\\""\nSockets=a\n'
    shown = hidden().unit(old)
    assert "s3cret" not in shown
    assert shown.startswith('Environment="KECHI_COMMAND=/bin/x"\nEnvironment="TOKEN=(hidden: ')
    assert shown.endswith("Sockets=a\n")


def test_a_changed_value_is_seen_to_have_changed_and_an_equal_one_not():
    hide = hidden().pool_file
    old, same, new = (hide(POOL.format(name="blog", value=value)) for value in ("1", "1", "2"))
    assert old == same
    assert old != new


def test_marks_are_of_one_run():
    texts = {environments.Hidden(salt).file('A="1"\n') for salt in (b"1", b"2")}
    assert len(texts) == 2


def test_lines_are_one_assignment_each_for_a_shell_too():
    # systemd's rules within double quotes are a shell's
    script = f'{environments.lines(SECRETS)}\nprintf \'%s|\' "$KEY" "$LINES" "$EMPTY" "$N"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"{SECRETS[name]}|" for name in ("KEY", "LINES", "EMPTY", "N"))
