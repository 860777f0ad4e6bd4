"""Machines against an engine that only writes down what it was asked."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from containers.engine import Plan
from containers.machines import Machine, MachineError, Machines, of_target, run_command

VPS = Machine("vps", "localhost/kechi-debian:12", "net")

# answers like an engine whose containers and networks are files; its quirks come from the test
ENGINE = """#!/bin/sh
cd DIRECTORY
echo "$*" >>calls
case "$*" in
    "container inspect "*) [ -e "container-$3" ] && cat "container-$3" ;;
    "network inspect "*) [ -e "network-$3" ] ;;
    "network create "*) for last; do :; done; : >"network-$last" ;;
    "network rm "*) [ ! -e in-use ] || { echo "network is being used" >&2; exit 2; }
        rm "network-$3" ;;
    "run "*) [ ! -e no-image ] || { echo "pinging localhost: refused" >&2; exit 125; }
        echo running >container-vps
        if [ -s taken ]; then sed -i 1d taken; cat why >&2; exit 126; fi ;;
    "image inspect "*) [ ! -e no-image ] ;;
    "start "*) echo running >"container-$2" ;;
    "rm "*) for last; do :; done; rm "container-$last" ;;
    "exec "*is-system-running*) cat boot ;;
    "exec "*--failed*) echo sad.service ;;
    "port "*) echo 127.0.0.1:4000 ;;
esac
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "boot").write_text("running\n")
    script = tmp_path / "engine"
    script.write_text(ENGINE.replace("DIRECTORY", str(tmp_path)))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return tmp_path


@pytest.fixture
def machines(directory: Path) -> Machines:
    command = (str(directory / "engine"),)
    return Machines(Plan("podman", command, ("--privileged",), (), ("--force",), None))


def calls(directory: Path) -> list[str]:
    return (directory / "calls").read_text().splitlines()


def test_a_machine_is_started_on_its_network_and_waited_for(
    machines: Machines, directory: Path
) -> None:
    assert machines.up([VPS]) == ["vps"]
    asked = [call.split()[0] for call in calls(directory)]
    assert asked == ["network", "network", "container", "run", "exec"]


def test_a_second_up_changes_nothing(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    (directory / "calls").unlink()
    assert machines.up([VPS]) == []
    assert not [call for call in calls(directory) if call.startswith(("run", "network create"))]


def test_a_stopped_machine_is_started_again_and_not_made_anew(
    machines: Machines, directory: Path
) -> None:
    (directory / "container-vps").write_text("exited\n")
    assert machines.up([VPS]) == ["vps"]
    assert "start vps" in calls(directory)


@pytest.mark.parametrize(("times", "starts"), [(1, 2), (4, 5), (9, 5)])
def test_a_port_that_another_has_taken_meanwhile_is_another_one_the_next_time(
    machines: Machines, directory: Path, times: int, starts: int
) -> None:
    (directory / "taken").write_text("yes\n" * times)
    (directory / "why").write_text("listen tcp4 127.0.0.1:37217: bind: address already in use\n")
    if times < starts:
        assert machines.up([VPS]) == ["vps"]
    else:
        with pytest.raises(MachineError, match="address already in use"):
            machines.up([VPS])
    asked = calls(directory)
    assert sum(call.startswith("run ") for call in asked) == starts
    assert sum(call.startswith("rm --force ") for call in asked) == starts - 1


def test_what_else_keeps_a_machine_from_starting_is_told_at_once(
    machines: Machines, directory: Path
) -> None:
    (directory / "taken").write_text("yes\n")
    (directory / "why").write_text("no such image\n")
    with pytest.raises(MachineError, match="no such image"):
        machines.up([VPS])
    assert sum(call.startswith("run ") for call in calls(directory)) == 1


def test_a_machine_that_boots_with_a_failed_unit_is_refused_by_its_name(
    machines: Machines, directory: Path
) -> None:
    (directory / "boot").write_text("degraded\n")
    with pytest.raises(MachineError, match=r"vps: units failed at boot:\nsad\.service"):
        machines.up([VPS])


def test_down_removes_machine_and_network(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    assert machines.down([VPS]) == ["vps"]
    assert not (directory / "container-vps").exists()
    assert not (directory / "network-net").exists()


def test_down_of_what_is_not_there_changes_nothing(machines: Machines) -> None:
    assert machines.down([VPS]) == []


def test_a_network_that_others_use_is_left_alone(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    (directory / "in-use").touch()
    assert machines.down([VPS]) == ["vps"]
    assert (directory / "network-net").exists()


def test_only_this_machine_reaches_the_published_ports() -> None:
    plan = Plan("podman", ("podman",), (), (), (), None)
    published = [flag for flag in run_command(plan, VPS) if flag.startswith("--publish")]
    assert published == ["--publish=127.0.0.1::80", "--publish=127.0.0.1::443"]


def test_the_address_is_where_the_engine_published_a_port(
    machines: Machines, directory: Path
) -> None:
    assert machines.address("vps") == machines.address("vps", 443) == "127.0.0.1:4000"
    assert calls(directory) == ["port vps 80/tcp", "port vps 443/tcp"]


def test_a_machine_without_its_image_says_what_makes_it(
    machines: Machines, directory: Path
) -> None:
    (directory / "no-image").touch()
    with pytest.raises(MachineError, match=r"no image localhost/kechi-debian:12: "):
        machines.up([VPS])


@pytest.mark.parametrize(
    ("image", "target", "other"),
    [
        ("localhost/kechi-debian:12", "debian:testing", "localhost/kechi-debian:testing"),
        ("localhost/kechi-debian:13", "ubuntu:24.04", "localhost/kechi-ubuntu:24.04"),
        ("localhost/kechi-debian:12-set-up", "debian:13", "localhost/kechi-debian:13-set-up"),
        ("localhost/kechi-debian:12", "", "localhost/kechi-debian:12"),
    ],
)
def test_all_machines_are_of_the_release_that_is_asked_for(
    image: str, target: str, other: str
) -> None:
    machine = of_target(Machine("vps", image, "net"), {"KECHI_TARGET": target})
    assert machine == Machine("vps", other, "net")
