"""What runs a virtual machine's processors here, and what it is started with."""

from pathlib import Path

import pytest

from vms.qemu import ACCELERATORS, Files, QemuError, choose, command, kvm_fault

FILES = Files(*map(Path, ("kernel", "initrd", "disk", "console", "pid")))


@pytest.mark.parametrize(
    ("wanted", "fault", "expected"),
    [
        (None, "", "kvm"),
        (None, "/dev/kvm: No such file or directory", "tcg"),
        ("", "", "kvm"),  # set but empty is not set, as in a shell
        ("kvm", "", "kvm"),
        ("tcg", "", "tcg"),
    ],
)
def test_kvm_is_chosen_where_it_works(wanted: str | None, fault: str, expected: str) -> None:
    environ = {} if wanted is None else {"KECHI_VM_ACCEL": wanted}
    assert choose(environ, fault).name == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("hvf", 'KECHI_VM_ACCEL="hvf" is not one of: kvm, tcg'),
        ("kvm", "KECHI_VM_ACCEL=kvm can't be had: no such thing"),
    ],
)
def test_an_impossible_choice_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(QemuError) as caught:
        choose({"KECHI_VM_ACCEL": wanted}, "no such thing")
    assert str(caught.value) == message


def test_kvm_by_a_processor_without_virtualization_is_none() -> None:
    assert "the processor has no virtualization" in kvm_fault("flags : fpu sse sse2 vmxx")


@pytest.mark.parametrize("name", ACCELERATORS)
def test_only_this_machine_reaches_the_forwarded_ports(name: str) -> None:
    words = command("vps", 1024, FILES, {22: 4022, 80: 4080}, ACCELERATORS[name])
    (network,) = (word for word in words if word.startswith("user,"))
    forwards = [part for part in network.split(",") if part.startswith("hostfwd")]
    assert forwards == ["hostfwd=tcp:127.0.0.1:4022-:22", "hostfwd=tcp:127.0.0.1:4080-:80"]


def test_a_machine_knows_its_name_and_has_the_memory_it_is_to_have() -> None:
    words = command("vps", 1024, FILES, {}, ACCELERATORS["kvm"])
    assert words[words.index("-m") + 1] == "1024"
    assert "systemd.hostname=vps" in words[words.index("-append") + 1].split()
