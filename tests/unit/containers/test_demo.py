"""What the demo reads and prints."""

from typing import Any

import pytest

from containers.demo import (
    Address,
    DemoError,
    Site,
    address_of,
    changed_tasks,
    curl_line,
    read_inventory,
)


def listed(machines: list[str]) -> dict[str, Any]:
    variables = {
        "container_image": "localhost/kechi-debian:13",
        "vhost_app_pools": [
            {
                "name": "main",
                "apps": [
                    {"name": "blog", "hosts": ["blog.example", "www.blog.example"]},
                    {"name": "motd", "hosts": ["motd.example"]},
                ],
            },
            {"name": "clock", "apps": [{"name": "clock", "hosts": ["clock.example"]}]},
        ],
    }
    return {
        "_meta": {"hostvars": dict.fromkeys(machines, variables)},
        "containers": {"hosts": machines},
    }


def test_pools_and_sites_are_those_of_the_inventory() -> None:
    demo = read_inventory(listed(["vps"]))
    assert (demo.machine, demo.release, demo.pools) == ("vps", "13", ("main", "clock"))
    assert demo.sites == (
        Site("blog", (Address("blog.example"), Address("www.blog.example"))),
        Site("motd", (Address("motd.example"),)),
        Site("clock", (Address("clock.example"),)),
    )


@pytest.mark.parametrize("machines", [[], ["a", "b"]])
def test_a_demo_of_no_or_two_machines_is_refused(machines: list[str]) -> None:
    with pytest.raises(DemoError, match="the demo wants one host"):
        read_inventory(listed(machines))


def test_changes_are_counted_over_all_hosts() -> None:
    recap = """PLAY RECAP ***
a : ok=14   changed=5    unreachable=0    failed=0    skipped=7
b : ok=14   changed=12   unreachable=0    failed=0    skipped=7
"""
    assert changed_tasks(recap) == 17


def test_a_sites_curl_line_needs_no_dns() -> None:
    assert curl_line(Address("blog.example"), "127.0.0.1:4000") == (
        "curl --resolve blog.example:4000:127.0.0.1 http://blog.example:4000/"
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("Blog.example", Address("blog.example")),
        ("bücher.example", Address("xn--bcher-kva.example")),
        ("*.blog.example", Address("www.blog.example")),
        ("blog.example/wiki", Address("blog.example", "/wiki/")),
        ("*", Address("any.example")),
        ("*/wiki", Address("any.example", "/wiki/")),
    ],
)
def test_each_kind_of_host_has_an_address_that_can_be_opened(host: str, address: Address) -> None:
    assert address_of(host) == address


def test_what_is_no_host_is_refused() -> None:
    with pytest.raises(DemoError, match='"a b" is not a host'):
        address_of("a b")
