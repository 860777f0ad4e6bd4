"""The plan for this machine's engine: every quirk, as a table of facts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containers.engine import EngineError, Facts, ca_bundle, choose, decide

LAPTOP = Facts(
    engine="podman",
    cgroups="v2",
    runtime="crun",
    remote=False,
    rootless=False,
    runc=None,
    sys_resource=True,
    nofile=524288,
    nproc=None,
    pid_max=4194304,
    ca_bundle=None,
)
HYBRID = replace(
    LAPTOP, cgroups="v1", runc="/usr/sbin/runc", sys_resource=False, nofile=20000, nproc=96365
)


def ulimits(facts: Facts) -> list[str]:
    return [flag for flag in decide(facts).run_flags if flag.startswith("--ulimit")]


def test_limits_of_units_are_enforced_with_every_engine() -> None:
    for facts in (LAPTOP, HYBRID, replace(LAPTOP, engine="docker")):
        assert "--cgroupns=private" in decide(facts).run_flags


def test_systemd_boots_in_a_podman_container() -> None:
    assert "--systemd=always" in decide(LAPTOP).run_flags


def test_docker_gets_by_hand_what_podman_does_for_systemd() -> None:
    flags = decide(replace(LAPTOP, engine="docker")).run_flags
    assert {"--tmpfs=/run:exec", "--tmpfs=/tmp:exec", "--env=container=docker"} <= {*flags}
    assert "--systemd=always" not in flags  # docker refuses a flag that it does not know


def test_both_engines_stop_systemd_by_its_own_signal() -> None:
    for engine in ("podman", "docker"):
        flags = decide(replace(LAPTOP, engine=engine)).run_flags
        assert "--stop-signal=SIGRTMIN+3" in flags


def test_crun_is_left_for_runc_on_cgroup_v1_only() -> None:
    assert decide(HYBRID).command == ("podman", "--runtime=/usr/sbin/runc")
    assert decide(replace(HYBRID, cgroups="v2")).command == ("podman",)
    assert decide(replace(HYBRID, runtime="runc")).command == ("podman",)
    assert decide(replace(HYBRID, remote=True)).command == ("podman",)


def test_a_missing_runc_is_said_with_the_command_that_installs_it() -> None:
    with pytest.raises(EngineError, match="sudo apt-get install runc"):
        decide(replace(HYBRID, runc=None))


def test_limits_are_named_only_where_podmans_own_would_be_refused() -> None:
    assert ulimits(HYBRID)
    assert not ulimits(LAPTOP)
    assert not ulimits(replace(HYBRID, rootless=True))
    assert not ulimits(replace(HYBRID, remote=True))


@pytest.mark.parametrize(
    ("nofile", "nproc", "pid_max", "expected"),
    [
        (20000, 96365, 32768, ["nofile=20000:20000", "nproc=32768:32768"]),
        (20000, 500, 32768, ["nofile=20000:20000", "nproc=500:500"]),
        (None, None, 32768, ["nofile=1048576:1048576", "nproc=32768:32768"]),
    ],
)
def test_no_limit_exceeds_the_hard_one(
    nofile: int | None, nproc: int | None, pid_max: int, expected: list[str]
) -> None:
    facts = replace(HYBRID, nofile=nofile, nproc=nproc, pid_max=pid_max)
    assert ulimits(facts) == [f"--ulimit={limit}" for limit in expected]


def installed(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in names else None


def test_podman_is_chosen_before_docker() -> None:
    assert choose({}, installed("docker", "podman")) == "podman"
    assert choose({}, installed("docker")) == "docker"


def test_the_environment_overrides_the_choice() -> None:
    assert choose({"KECHI_ENGINE": "docker"}, installed("docker", "podman")) == "docker"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "no podman on PATH: sudo apt-get install podman"),
        ({"KECHI_ENGINE": "docker"}, "no docker on PATH: sudo apt-get install docker.io"),
        ({"KECHI_ENGINE": "lxc"}, 'KECHI_ENGINE="lxc" is not one of: podman, docker'),
        ({"KECHI_ENGINE": ""}, "no podman on PATH: sudo apt-get install podman"),
    ],
)
def test_no_engine_is_said_in_one_line(environ: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError) as caught:
        choose(environ, installed())
    assert str(caught.value) == message


def test_the_hosts_authorities_are_found_where_pip_or_openssl_is_told_them(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    home = {"HOME": str(tmp_path)}
    assert ca_bundle({**home, "SSL_CERT_FILE": str(bundle)}) == str(bundle)
    other = tmp_path / "pip.pem"
    other.touch()
    told_twice = {**home, "SSL_CERT_FILE": str(bundle), "PIP_CERT": str(other)}
    assert ca_bundle(told_twice) == str(other)


def test_pips_configured_certificate_counts_and_a_missing_file_does_not(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    config = tmp_path / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"[global]\ncert = {bundle}\n")
    environ = {"HOME": str(tmp_path), "SSL_CERT_FILE": str(tmp_path / "absent")}
    assert ca_bundle(environ) != str(bundle)
    bundle.touch()
    assert ca_bundle(environ) == str(bundle)
