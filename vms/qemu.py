"""How QEMU runs a VPS on this machine: by KVM where that works, else by emulation.

``KECHI_VM_ACCEL=tcg`` (or ``kvm``) overrides the choice.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KVM = Path("/dev/kvm")
KVM_CREATE_VM = 0xAE01  # the ioctl, as in linux/kvm.h
ARCHITECTURES = ("x86_64", "AMD64")
PROGRAM = "qemu-system-x86_64"
KERNEL_OPTIONS = ("root=/dev/vda", "ro", "console=ttyS0")


class QemuError(Exception):
    """No usable QEMU here: the message is one line that says what to do."""


@dataclass(frozen=True)
class Accelerator:
    """What runs the machine's processors, and how long one may take for what."""

    name: str
    flags: tuple[str, ...]
    kernel_options: tuple[str, ...]
    boot_seconds: int  # till systemd has started everything
    answer_seconds: int  # till sshd has greeted
    niceness: int  # how much it leaves to whatever else runs here


ACCELERATORS = {
    "kvm": Accelerator("kvm", ("-accel", "kvm", "-cpu", "host", "-smp", "2"), (), 120, 5, 0),
    # ten times slower, and slower still on a busy machine; with two processors a boot costs half as
    # much again, and what one newer than Westmere can (SMAP, five levels of pages) seems to cost a
    # fork up to a fifth
    "tcg": Accelerator(
        "tcg",
        ("-accel", "tcg,thread=single", "-cpu", "Westmere", "-smp", "1"),
        (
            *("mitigations=off", "tsc=reliable", "clocksource=tsc"),  # cheaper to emulate
            # what is slow is not dead
            *("systemd.service_watchdogs=0", "systemd.default_timeout_start_sec=900"),
        ),
        1800,
        120,
        5,
    ),
}


def choose(environ: Mapping[str, str], fault: str) -> Accelerator:
    """Choose by $KECHI_VM_ACCEL, or by why there is no KVM ("": there is). Raises QemuError."""
    wanted = environ.get("KECHI_VM_ACCEL")  # set but empty is not set, as in a shell
    if not wanted:
        return ACCELERATORS["tcg" if fault else "kvm"]
    if wanted not in ACCELERATORS:
        raise QemuError(f'KECHI_VM_ACCEL="{wanted}" is not one of: {", ".join(ACCELERATORS)}')
    if wanted == "kvm" and fault:
        raise QemuError(f"KECHI_VM_ACCEL=kvm can't be had: {fault}")
    return ACCELERATORS[wanted]


def kvm_fault(processor_flags: str) -> str:
    """Say why there is no KVM here; empty where one can make a machine with it.

    Args:
        processor_flags: those of /proc/cpuinfo.
    """
    # there is KVM without: it emulates a guest's kernel, instruction by instruction, and not all
    if not {"vmx", "svm"} & set(processor_flags.split()):
        return "the processor has no virtualization, or hides it"
    try:
        handle = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{KVM}: {error.strerror}"
    try:
        os.close(fcntl.ioctl(handle, KVM_CREATE_VM, 0))
    except OSError as error:  # there, and of no use: in a machine that is virtual itself, say
        return f"{KVM}: {error.strerror}"
    finally:
        os.close(handle)
    return ""


def accelerator() -> Accelerator:
    """Look at this machine and decide. Raises QemuError."""
    if platform.machine() not in ARCHITECTURES:
        raise QemuError(f"the VMs are x86-64 ones, and this machine is {platform.machine()}")
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return choose(os.environ, kvm_fault(flags))


@dataclass(frozen=True)
class Files:
    """What a machine is made of, on this machine's disk."""

    kernel: Path
    initrd: Path
    disk: Path
    console: Path
    pid: Path


def command(
    name: str, memory_mb: int, files: Files, ports: Mapping[int, int], chosen: Accelerator
) -> list[str]:
    """Spell the command line; `ports` leads from the machine's to those of 127.0.0.1."""
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in ports.items())
    # What the guest has flushed need not be on this machine's disk, as this machine stays: then
    # fsync is quick. Zeros take no place, so that a swapfile is made quickly.
    disk = f"file={files.disk},format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=unmap"
    return [
        *("nice", "-n", str(chosen.niceness)),
        *(PROGRAM, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-name", name, "-machine", "q35", *chosen.flags),
        *("-m", str(memory_mb)),
        *("-drive", f"if=virtio,{disk}"),
        # no IPv6: its packets would lead nowhere, and each download wait for them
        *("-netdev", f"user,id=net,ipv6=off{forwards}"),
        *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        *("-kernel", str(files.kernel), "-initrd", str(files.initrd)),
        *(
            "-append",
            " ".join([*KERNEL_OPTIONS, f"systemd.hostname={name}", *chosen.kernel_options]),
        ),
        *("-serial", f"file:{files.console}"),
        *("-daemonize", "-pidfile", str(files.pid)),
    ]
