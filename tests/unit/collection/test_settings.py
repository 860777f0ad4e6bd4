"""Settings of the roles: every mistake is named, with its value and what is allowed."""

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

from ansible_collections.kechi.vps.plugins.plugin_utils import checks
from ansible_collections.kechi.vps.plugins.plugin_utils.settings import problems, unknown

ROLES = Path(__file__).parents[3] / "roles"
SPEC = {
    "delay_seconds": {"type": "int", "required": True},
    "mode": {"type": "str", "choices": ["a", "b"]},
    "modes": {"type": "list", "elements": "str", "choices": ["a", "b"]},
    "items": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "size": {"type": "int"}},
    },
}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "delay_seconds: is missing; a whole number is required"),
        ({"delay_seconds": "soon"}, 'delay_seconds: "soon" is not a whole number'),
        ({"delay_seconds": 1, "mode": "c"}, 'mode: "c" is not one of a, b'),
        ({"delay_seconds": 1, "modes": ["a", "c"]}, 'modes[1]: "c" is not one of a, b'),
        ({"delay_seconds": 1, "items": "one"}, 'items: "one" is not a list'),
        (
            {"delay_seconds": 1, "items": [{"name": "x"}, {"size": 1}]},
            "items[1].name: is missing; a text is required",
        ),
        (
            {"delay_seconds": 1, "items": [{"name": "x", "sise": 1}]},
            "items[0].sise: 1 is not a known setting; known: name, size",
        ),
        ({"delay_seconds": 1, "items": ["x"]}, 'items[0]: "x" is not a mapping'),
        ({"delay_seconds": 1, "items": [{"name": ["x"]}]}, 'items[0].name: ["x"] is not a text'),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_allowed(values, sentence):
    assert problems(SPEC, values) == [sentence]


def test_a_mistake_is_told_with_the_file_and_line_that_it_was_set_in(tmp_path, monkeypatch):
    file = tmp_path / "host_vars" / "vps1.yml"
    file.parent.mkdir()
    file.write_text("---\nmode: a\n\ndelay_seconds: soon\nitems:\n  - size: 1\n")
    values = DataLoader().load_from_file(str(file))
    for folder, shown in ((tmp_path, "host_vars/vps1.yml"), (Path("/"), str(file)[1:])):
        monkeypatch.chdir(folder)
        assert problems(SPEC, values) == [
            f'delay_seconds: "soon" is not a whole number (set in {shown}:4)',
            f"items[0].name: is missing; a text is required (set in {shown}:6)",
        ]


def test_a_secret_of_a_wrong_type_is_not_shown():
    spec = {"password": {"type": "str", "no_log": True}}
    assert problems(spec, {"password": ["hush"]}) == ["password: (hidden) is not a text"]


def test_right_values_raise_no_problem():
    values = {"delay_seconds": "5", "mode": "a", "items": [{"name": "x", "size": 3}]}
    assert problems(SPEC, values) == []


def test_all_problems_are_told_at_once():
    assert len(problems(SPEC, {"mode": "c", "items": [{}, {}]})) == 4


def test_a_misspelt_variable_of_a_role_is_named():
    names = {"swap_sise_mb": 5, "swap_size_mb": 5, "other": 1}
    assert unknown("swap", {"swap_size_mb": {}}, names) == [
        "swap_sise_mb: 5 is not a known setting; known: swap_size_mb"
    ]


@pytest.mark.parametrize(
    ("role", "changed", "start"),
    [
        ("host", {"host_journal_max_mb": 1}, "host_journal_max_mb: 1 is too small"),
        ("host", {"host_journal_runtime_max_mb": 1}, "host_journal_runtime_max_mb: 1 is too small"),
        ("host", {"host_journal_max_days": -1}, "host_journal_max_days: -1 is too small"),
        (
            "host",  # what YAML makes of 04:30 without quotes
            {"host_security_updates_reboot_time": 270},
            "host_security_updates_reboot_time: 270 is not a time of day",
        ),
        (
            "host",
            {"host_firewall_tcp_ports": [80, "http"]},
            'host_firewall_tcp_ports[1]: "http" is not a port',
        ),
        (
            "host",
            {"host_firewall_udp_ports": ["6010-6000"]},
            'host_firewall_udp_ports[0]: "6010-6000" is not a port',
        ),
        (
            "host",
            {"host_firewall_tcp_ports": ["80-90", "1-65536"]},
            'host_firewall_tcp_ports[1]: "1-65536" is not a port',
        ),
        (
            "host",
            {"host_firewall_tcp_ports": ["80-90", 443, 85]},
            "host_firewall_tcp_ports[2]: 85 is listed already",
        ),
        (
            "host",
            {"host_firewall_extra_rules": ["tcp dport 1 accept\ntcp dport 2 accept"]},
            "host_firewall_extra_rules[0]: ",
        ),
        (
            "host",
            {"host_firewall_confirm_seconds": 5},
            "host_firewall_confirm_seconds: 5 is too small",
        ),
        (
            "swap",
            {"swap_size_mb": 0},
            "swap_size_mb: 0 is no size; allowed: auto, or 16 or more MB",
        ),
        ("swap", {"swap_size_mb": "1G"}, 'swap_size_mb: "1G" is no size'),
        ("swap", {"swap_zram_size_mb": -1}, "swap_zram_size_mb: -1 is no size"),
        ("swap", {"swap_zram_size_mb": 2049}, "swap_zram_size_mb: 2049 is more than twice"),
        ("swap", {"swap_swappiness": 201}, "swap_swappiness: 201 is outside 0 to 200"),
        (
            "swap",
            {"swap_vfs_cache_pressure": 0},
            "swap_vfs_cache_pressure: 0 is outside 1 to 1000",
        ),
        ("swap", {"swap_path": "/a b"}, 'swap_path: "/a b" is not an absolute path'),
        ("swap", {"swap_path": "/a/../b"}, 'swap_path: "/a/../b" is not an absolute path'),
        ("swap", {"swap_path": "swapfile"}, 'swap_path: "swapfile" is not an absolute path'),
        (
            "supervisor",
            {"supervisor_kill_old_delay_seconds": -1},
            "supervisor_kill_old_delay_seconds: -1 is too small",
        ),
        (
            "supervisor",
            {"supervisor_auto_restart_interval_seconds": 0},
            "supervisor_auto_restart_interval_seconds: 0 is too small",
        ),
        ("vhost_app", {"vhost_app_only": "blog"}, 'vhost_app_only: "blog" is no app here'),
        ("vhost_app", {"vhost_app_release": "a"}, 'vhost_app_release: "a" is of no app'),
        (
            "vhost_app",
            {"vhost_app_wheel_house": "no"},
            'vhost_app_wheel_house: "no" is no directory',
        ),
        ("vhost_app", {"vhost_app_keep_releases": 0}, "vhost_app_keep_releases: 0 is too small"),
        (
            "vhost_app",
            {"vhost_app_hook_timeout_seconds": 0},
            "vhost_app_hook_timeout_seconds: 0 is too small",
        ),
        ("frontend", {"frontend_port": 0}, "frontend_port: 0 is outside 1 to 65535"),
        (
            "frontend",
            {
                "frontend_sites": [
                    {"name": "a", "hosts": ["x.example"], "socket": "/a"},
                    {"name": "b", "hosts": ["X.example"], "socket": "/b"},
                ]
            },
            'frontend_sites[1].hosts[0]: "X.example" is already the host of a',
        ),
        (
            "frontend",
            {"frontend_sites": [{"name": "a", "hosts": ["x;y"], "socket": "/a"}]},
            'frontend_sites[0].hosts[0]: "x;y" is not a host',
        ),
        ("backup", {"backup_keep": 0}, "backup_keep: 0 is too small; allowed: 1 or more backups"),
        ("backup", {"backup_min_free_mb": -1}, "backup_min_free_mb: -1 is too small"),
        ("backup", {"backup_random_delay_seconds": -1}, "backup_random_delay_seconds: -1 is too"),
        ("backup", {"backup_timeout_seconds": 1}, "backup_timeout_seconds: 1 is too small"),
        ("backup", {"backup_memory_max_mb": 63}, "backup_memory_max_mb: 63 is too small"),
        (
            "backup",
            {"backup_directory": "/var/my backups"},
            'backup_directory: "/var/my backups" is not an absolute path without spaces',
        ),
        (
            "backup",
            {"backup_apps": [{"name": "../x", "directory": "/x"}]},
            'backup_apps[0].name: "../x" is not a name',
        ),
        (
            "backup",
            {"backup_apps": [{"name": "x", "directory": "/x"}, {"name": "x", "directory": "/y"}]},
            'backup_apps[1].name: "x" is taken',
        ),
        (
            "backup",
            {"backup_apps": [{"name": "x", "directory": "shared"}]},
            'backup_apps[0].directory: "shared" is not an absolute path',
        ),
        (
            "backup",
            {"backup_apps": [{"name": "x", "directory": "/var"}]},
            'backup_apps[0].directory: "/var" holds backup_directory (/var/backups/kechi)',
        ),
        (
            "backup",
            {"backup_restic_repository": "backups", "backup_restic_password": "x"},
            'backup_restic_repository: "backups" is neither an absolute path nor SCHEME:PLACE',
        ),
        (
            "backup",
            {"backup_restic_repository": "/backups"},
            "backup_restic_password: is missing; a repository (backup_restic_repository) needs one",
        ),
        (
            "backup",
            {"backup_restic_environment": {"RESTIC_PASSWORD": "hush"}},
            'backup_restic_environment: "RESTIC_PASSWORD" is not for here; allowed: backup_restic_',
        ),
        (
            "backup",
            {"backup_restic_environment": {"A B": "hush"}},
            'backup_restic_environment: "A B" is not the name of a variable',
        ),
        (
            "backup",
            {"backup_restic_keep": {"daily": -1}},
            "backup_restic_keep.daily: -1 is negative",
        ),
        (
            "backup",
            {"backup_restic_keep": {"daily": 0}},
            'backup_restic_keep: {"daily": 0} keeps nothing',
        ),
        (
            "frontend",
            {"frontend_sites": [{"name": "../a", "hosts": ["a.example"], "socket": "/a"}]},
            'frontend_sites[0].name: "../a" is no name',
        ),
        ("frontend", {"frontend_tls_port": 80}, "frontend_tls_port: 80 is frontend_port's, too"),
        (
            "frontend",
            {"frontend_trusted_proxies": ["10.0.0.1", "proxy.example"]},
            'frontend_trusted_proxies[1]: "proxy.example" is no address and no network',
        ),
        (
            "frontend",
            {"frontend_trusted_proxies": ["::/0"]},
            'frontend_trusted_proxies[0]: "::/0" would have everybody believed',
        ),
        (
            "frontend",
            {"frontend_trusted_proxies": ["10.0.0.1/8"]},
            'frontend_trusted_proxies[0]: "10.0.0.1/8" is an address within a network; allowed: '
            '"10.0.0.0/8"',
        ),
        (
            "frontend",
            {"frontend_acme_email": "me"},
            'frontend_acme_email: "me" is no address',
        ),
        (
            "frontend",
            {"frontend_acme_email": "me@example.org", "frontend_port": 8080},
            "frontend_port: 8080 keeps the ACME server out, which asks at port 80",
        ),
        (
            "frontend",
            {"frontend_acme_server": "http://ca.example/dir"},
            'frontend_acme_server: "http://ca.example/dir" is no directory of an ACME server',
        ),
        (
            "frontend",
            {"frontend_acme_ca_file": "nowhere.pem"},
            'frontend_acme_ca_file: "nowhere.pem" is no file on the control machine (/nowhere.pem)',
        ),
        (
            "frontend",
            {"frontend_hsts_max_age_seconds": -1},
            "frontend_hsts_max_age_seconds: -1 is too small",
        ),
        ("crawlers", {"crawlers_report_days": 0}, "crawlers_report_days: 0 is too small"),
        ("crawlers", {"crawlers_report_keep_days": 0}, "crawlers_report_keep_days: 0 is too small"),
        (
            "crawlers",
            {"crawlers_limit_requests_per_minute": 0},
            "crawlers_limit_requests_per_minute: 0 is outside 1",
        ),
        (
            "crawlers",
            {"crawlers_limit_burst_requests": -1},
            "crawlers_limit_burst_requests: -1 is too small",
        ),
        ("crawlers", {"crawlers_limit_hours": 0}, "crawlers_limit_hours: 0 is too small"),
        ("crawlers", {"crawlers_memory_max_mb": 64}, "crawlers_memory_max_mb: 64 is too small"),
        (
            "crawlers",
            {"crawlers_logs": ["/var/log/a b"]},
            'crawlers_logs[0]: "/var/log/a b" is no log',
        ),
        (
            "crawlers",
            {"crawlers_logs": ["/var/log/$(x)"]},
            'crawlers_logs[0]: "/var/log/$(x)" is no log',
        ),
        (
            "crawlers",
            {"crawlers_limit_never": ["192.0.2.1/8"]},
            'crawlers_limit_never[0]: "192.0.2.1/8" is neither',
        ),
        (
            "crawlers",
            {"crawlers_resolver": "dns.example"},
            'crawlers_resolver: "dns.example" is no DNS server',
        ),
        ("crawlers", {"crawlers_wheel_house": "no"}, 'crawlers_wheel_house: "no" is no directory'),
        (
            "crawlers",
            {"crawlers_robots": [{"hosts": ["a b"]}]},
            'crawlers_robots[0].hosts[0]: "a b" is no host',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"hosts": ["a.example/x"]}]},
            'crawlers_robots[0].hosts[0]: "a.example/x" is no host',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"hosts": ["a.example"]}, {"hosts": ["A.example"]}]},
            'crawlers_robots[1].hosts[0]: "A.example" is named twice',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{}, {"disallow": ["/"]}]},
            'crawlers_robots[1].hosts: "" is named twice: crawlers_robots[0] is',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"disallow": ["private"]}]},
            'crawlers_robots[0].disallow[0]: "private" is no path',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"allow": ["/a\nUser-agent: x"]}]},
            "crawlers_robots[0].allow[0]: ",
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"disallow": ["/a#b"]}]},
            'crawlers_robots[0].disallow[0]: "/a#b" is no path',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"crawl_delay_seconds": -1}]},
            "crawlers_robots[0].crawl_delay_seconds: -1 is negative",
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"agents": [{"names": []}]}]},
            "crawlers_robots[0].agents[0].names: [] names nobody",
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"agents": [{"names": ["A b"]}]}]},
            'crawlers_robots[0].agents[0].names[0]: "A b" is no name',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"agents": [{"names": ["A"]}, {"names": ["a"]}]}]},
            'crawlers_robots[0].agents[1].names[0]: "a" is named by',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"ai_training": False, "agents": [{"names": ["gptbot"]}]}]},
            'crawlers_robots[0].agents[0].names[0]: "gptbot" is opted out of',
        ),
        (
            "crawlers",
            {"crawlers_robots": [{"sitemaps": ["/sitemap.xml"]}]},
            'crawlers_robots[0].sitemaps[0]: "/sitemap.xml" is no address',
        ),
        (
            "crawlers",
            {
                "crawlers_sites": [{"name": "a", "hosts": ["a.example"]}],
                "crawlers_robots": [{"hosts": ["b.example"]}],
            },
            'crawlers_robots[0].hosts[0]: "b.example" is no site\'s host; allowed: a.example',
        ),
    ],
)
def test_what_types_cannot_say_is_checked_too(role, changed, start):
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    machine = checks.Machine(memory_mb=1024, inventory=Path("/"))
    assert list(checks.BY_ROLE[role](defaults, machine)) == []
    (sentence,) = checks.BY_ROLE[role]({**defaults, **changed}, machine)
    assert sentence.startswith(start)


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_defaults_and_argument_specs_agree(role):
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in options.items()} == defaults
    assert defaults
    assert all(name.startswith(f"{role}_") for name in defaults)
    assert role in checks.BY_ROLE
