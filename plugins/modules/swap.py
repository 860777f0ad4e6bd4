#!/usr/bin/python
"""A swapfile and zram, made, resized and removed from whatever state is found."""

from __future__ import annotations

DOCUMENTATION = """
module: swap
short_description: A swapfile and zram of given sizes, reached safely from any state
version_added: 0.1.0
description:
  - Only those steps are done that are missing, so that a run after an interrupted one finishes its
    work.
  - A swapfile of another size is made beside the old one and switched on before the old one is
    switched off. It takes the old one's place only where the disk has no room for both.
  - Swap is switched off only where there is room for what it holds. Else nothing is changed.
  - A swapfile of this module carries the label C(kechi.vps). Other swap is left alone, and said.
  - zram is what C(systemd-zram-generator) makes of O(zram_config). Where zram is there without that
    file, it is somebody else's.
options:
  path:
    description:
      - The swapfile. After a resize it is this one with C(.2) at its end, after the next one this
        one again.
    type: path
    required: true
  file:
    description: Whether there is to be a swapfile. If not, one of this module's is removed.
    type: bool
    default: true
  file_size_mb:
    description: Its size in MB, or V(auto).
    type: str
    default: auto
  zram:
    description: Whether there is to be zram. If not, one by O(zram_config) is switched off.
    type: bool
    default: false
  zram_size_mb:
    description: Its size in MB, uncompressed, or V(auto).
    type: str
    default: auto
  zram_config:
    description: The generator's file, as whose owner this module sees itself.
    type: path
    required: true
  fstab:
    description: Where the swapfile is switched on at each boot.
    type: path
    default: /etc/fstab
attributes:
  check_mode:
    support: full
    description: Says which steps are missing, and fails where they could not be done safely.
  diff_mode:
    support: full
    description: Shows the swap and C(/etc/fstab) before and after.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Have 1 GB of swap
  kechi.vps.swap:
    path: /swapfile
    file_size_mb: 1024
    zram_config: /etc/systemd/zram-generator.conf.d/kechi.conf
"""

RETURN = """
steps:
  description: What was done, in its order.
  returned: always
  type: list
  elements: str
  sample: [make /swapfile, on /swapfile, write /etc/fstab]
notes:
  description: What was left alone, and why.
  returned: always
  type: list
  elements: str
zram_size_mb:
  description: The size of the zram that this module has to do with; 0 is none.
  returned: always
  type: int
zram_is_ours:
  description: Whether O(zram_config) is there.
  returned: always
  type: bool
"""

import fcntl
import os
import stat
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import play_lock

KB = 1024
MB = 1024 * KB
ZRAM = "/dev/zram0"
ZRAM_UNIT = "systemd-zram-setup@zram0.service"
FILE_PRIORITY = 10
ZRAM_PRIORITY = 100  # the generator's own default
LABEL = b"kechi.vps"
MEMORY_MARGIN_KB = 64 * KB  # what must stay free for the system itself
DISK_MARGIN = 256 * MB

# what a file is
OURS = "ours"
BLANK = "blank"  # nothing but zeros: a swapfile that nobody has finished
FOREIGN = "foreign"  # somebody else's swapfile
DATA = "data"


class RefusedError(Exception):
    """The wanted state can't be reached safely."""


class Area(NamedTuple):
    """Swap that is on, a line of /proc/swaps."""

    path: str
    size_kb: int
    used_kb: int
    priority: int

    @property
    def size_mb(self) -> int:
        """Its size; the kernel does not count the page of the signature."""
        return round(self.size_kb / KB)

    @property
    def in_memory(self) -> bool:
        """Whether what it holds is memory all the same, if less of it."""
        return self.path.startswith("/dev/zram")


class File(NamedTuple):
    """A file that is a swapfile, or stands where one should be."""

    kind: str
    size: int = 0
    on_disk: int = 0
    whole: bool = True  # swap for all of its size, and no holes, which swapon refuses
    private: bool = True


@dataclass(frozen=True)
class Facts:
    """The machine, as far as it decides."""

    available_kb: int
    disk_free: int
    fstab: str = ""
    areas: Mapping[str, Area] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    disk_fault: str = ""  # why the file system can't have a swapfile
    zram_fault: str = ""  # why the kernel can't have zram
    zram_is_ours: bool = False
    zram_bytes: int = 0  # what /dev/zram0 is set up for
    # by how much control groups would be over their limits with all of their memory swapped in
    over_kb: Mapping[str, int] = field(default_factory=dict)


class Wanted(NamedTuple):
    """What there is to be; no bytes are none of it."""

    path: str
    file_bytes: int
    zram_bytes: int
    fstab: str = "/etc/fstab"

    @property
    def names(self) -> tuple[str, str]:
        """The two names that the swapfile may have, the better one first."""
        return self.path, f"{self.path}.2"

    @property
    def part(self) -> str:
        """The swapfile's name while it is written."""
        return f"{self.path}.kechi-part"


class Step(NamedTuple):
    """One thing to do."""

    what: str
    path: str


class Plan(NamedTuple):
    """What to do, and what to say."""

    steps: list[Step]
    notes: list[str]
    fstab: str
    zram_bytes: int  # what is left of the wish where somebody else has zram


def auto_file_mb(memory_kb: int) -> int:
    """As much as the memory, in steps of 256 MB, from 512 MB to 4 GB."""
    return min(max(_in_steps(memory_kb), 512), 4096)


def auto_zram_mb(memory_kb: int) -> int:
    """Half of the memory, in steps of 128 MB, up to 4 GB."""
    return min(_in_steps(memory_kb) // 2, 4096)


def _in_steps(memory_kb: int) -> int:
    # a kernel's update changes MemTotal by a few MB, and must not change a size
    return -(-memory_kb // (256 * KB)) * 256


def no_zram(kernel: str) -> str:
    """Why a kernel can't have zram."""
    return (
        f"the running kernel, {kernel}, has no module zram; Ubuntu's is in the package"
        f" linux-modules-extra-{kernel}"
    )


def fstab_with(text: str, ours: Iterable[str], path: str | None) -> str:
    """The fstab with a line for the swapfile (None: for none), and none for others of ours."""
    wanted = [path, "none", "swap", f"sw,pri={FILE_PRIORITY}", "0", "0"] if path else []
    names = {*ours, path}
    lines: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        is_ours = fields[2:3] == ["swap"] and fields[0] in names
        if is_ours and fields[0] == path and wanted:
            lines.append(line if fields == wanted else " ".join(map(str, wanted)))
            wanted = []
        elif not is_ours:
            lines.append(line)
    if wanted:
        lines.append(" ".join(map(str, wanted)))
    new = "".join(f"{line}\n" for line in lines)
    return text if new.splitlines() == text.splitlines() else new


def plan(facts: Facts, wanted: Wanted) -> Plan:
    """The missing steps, in an order in which each may be the last one for a while.

    Raises:
        RefusedError: something can't be had here, or not without ending programs. Nothing was done.
    """
    zram_bytes, notes = _zram_to_have(facts, wanted)
    left_alone = wanted.file_bytes > 0 and _kind(facts, wanted.path) == FOREIGN
    target, beside = (None, True) if left_alone else _swapfile_to_have(facts, wanted)
    makes = target is not None and not _is_right(facts, wanted, target)

    stale = [] if left_alone else _stale(facts, wanted, None if makes else target)
    going = [facts.areas[path] for path in stale if path in facts.areas]
    zram = facts.areas.get(ZRAM) if facts.zram_is_ours else None
    starts_zram = zram_bytes > 0 and not (
        zram and facts.zram_bytes == zram_bytes and zram.priority == ZRAM_PRIORITY
    )
    if zram and (starts_zram or not zram_bytes):
        going.append(zram)
    new_kb = wanted.file_bytes // KB if target and target not in facts.areas and beside else 0
    refuse_without_room(facts, going, new_kb)

    have = [Step("make", str(target))] if makes else []
    if target and (makes or target not in facts.areas):
        have.append(Step("on", target))
    off = [Step("off", area.path) for area in going]
    removed = [Step("remove", path) for path in stale]
    # what is not on goes first where its place on the disk is needed
    idle = [step for step in removed if makes and step.path not in facts.areas]
    used = [step for step in removed if step not in idle]
    gone = [name for name in wanted.names if name not in facts.files]
    fstab = facts.fstab
    if not left_alone:
        fstab = fstab_with(fstab, [*_ours(facts), *stale, *gone], target)
    write = [Step("write", wanted.fstab)] if fstab != facts.fstab else []
    if target in facts.files and not makes and not facts.files[str(target)].private:
        write.append(Step("protect", str(target)))
    steps = [*idle, *have, *off, *write, *used] if beside else [*idle, *off, *used, *have, *write]
    if facts.zram_is_ours and facts.zram_bytes and not zram_bytes:
        steps.append(Step("reset", ZRAM))
    if starts_zram:
        steps.append(Step("start", ZRAM))

    return Plan(steps, [*notes, *_left_alone(facts, wanted)], fstab, zram_bytes)


def _left_alone(facts: Facts, wanted: Wanted) -> Iterator[str]:
    """What is there, and not this role's."""
    others = (FOREIGN,) if wanted.file_bytes else (FOREIGN, DATA, BLANK)
    if _kind(facts, wanted.path) in others and wanted.path not in facts.areas:
        yield f"{wanted.path} is a file that this role has not made"
    mine = {*_ours(facts), ZRAM if facts.zram_is_ours else None}
    for area in facts.areas.values():
        if area.path not in mine:
            yield (
                f"{area.path} ({area.size_mb} MB, priority {area.priority}) is swap that "
                f"this role has not made"
            )


def _ours(facts: Facts) -> list[str]:
    return [path for path, file in facts.files.items() if file.kind == OURS]


def _is_right(facts: Facts, wanted: Wanted, path: str) -> bool:
    file, area = facts.files.get(path), facts.areas.get(path)
    if file is None or (file.kind, file.size, file.whole) != (OURS, wanted.file_bytes, True):
        return False
    return area is None or area.priority == FILE_PRIORITY


def _stale(facts: Facts, wanted: Wanted, kept: str | None) -> list[str]:
    """Files to remove: ours but one, and what an interrupted run has left."""
    may_be_blank = (wanted.part, *wanted.names) if wanted.file_bytes else (wanted.part,)
    unfinished = [path for path in may_be_blank if _kind(facts, path) == BLANK]
    return sorted(path for path in (*_ours(facts), *unfinished) if path != kept)


def _kind(facts: Facts, path: str) -> str | None:
    return facts.files[path].kind if path in facts.files else None


def _swapfile_to_have(facts: Facts, wanted: Wanted) -> tuple[str | None, bool]:
    """The swapfile's name (None: none), and whether it can be on before the old one is off."""
    for path in (wanted.part, *wanted.names):
        unusable = (DATA, FOREIGN) if path == wanted.part else (DATA,)
        if _kind(facts, path) in unusable and wanted.file_bytes:
            raise RefusedError(f"{path} is there and is no swapfile; choose another swap_path")
    if not wanted.file_bytes:
        return None, True
    right = [path for path in wanted.names if _is_right(facts, wanted, path)]
    if right:
        return min(right, key=lambda path: path not in facts.areas), True
    if facts.disk_fault:
        raise RefusedError(f"{wanted.path} can't be a swapfile: {facts.disk_fault}")
    here = {path: facts.files[path] for path in (*wanted.names, wanted.part) if path in facts.files}
    idle = sum(file.on_disk for path, file in here.items() if path not in facts.areas)
    used = sum(file.on_disk for path, file in here.items() if path in facts.areas)
    free = [name for name in wanted.names
            if name not in facts.areas and _kind(facts, name) != FOREIGN]  # fmt: skip
    needed = wanted.file_bytes + DISK_MARGIN
    if free and needed <= facts.disk_free + idle:
        return free[0], True
    if needed <= facts.disk_free + idle + used:
        return wanted.path, False
    room = facts.disk_free + idle + used
    raise RefusedError(
        f"a swapfile of {wanted.file_bytes // MB} MB does not fit on the disk of {wanted.path}: "
        f"{room // MB} MB are free or would become free, and {DISK_MARGIN // MB} MB must stay "
        f"free; allowed: {max(room - DISK_MARGIN, 0) // MB} MB at most"
    )


def _zram_to_have(facts: Facts, wanted: Wanted) -> tuple[int, list[str]]:
    """The bytes of zram to have, and why there are none where some are wanted."""
    if not wanted.zram_bytes or facts.zram_is_ours:
        return wanted.zram_bytes, []
    if facts.zram_bytes or any(area.in_memory for area in facts.areas.values()):
        return 0, ["there is zram already that this role has not made, so that none is added"]
    if facts.zram_fault:
        raise RefusedError(f"there can be no zram: {facts.zram_fault}")
    return wanted.zram_bytes, []


def refuse_without_room(facts: Facts, going: Sequence[Area], new_kb: int = 0) -> None:
    """Refuse to switch areas off whose content would not fit elsewhere.

    Args:
        facts: the machine.
        going: what is to be switched off.
        new_kb: what is switched on before that.
    """
    used_kb = sum(area.used_kb for area in going)
    if not used_kb:
        return
    # zram that stays is no room: what it takes in takes memory, too
    staying_kb = new_kb + sum(
        area.size_kb - area.used_kb
        for area in facts.areas.values()
        if area not in going and not area.in_memory
    )
    memory_kb = max(facts.available_kb - MEMORY_MARGIN_KB, 0)
    names = " and ".join(area.path for area in going)
    # without any memory to move it through, even what fits elsewhere makes the machine stand still
    if not memory_kb or used_kb > memory_kb + staying_kb:
        raise RefusedError(
            f"{names} can't be switched off without ending programs: {used_kb // KB} MB are "
            f"swapped out to it, and there is room for {memory_kb // KB} MB in memory "
            f"({facts.available_kb // KB} MB are available, {MEMORY_MARGIN_KB // KB} MB must stay "
            f"so) and {staying_kb // KB} MB in other swap. Stop some programs first"
        )
    for group, over_kb in facts.over_kb.items():
        if over_kb > staying_kb:
            raise RefusedError(
                f"{names} can't be switched off without ending programs: the control group {group} "
                f"would be over its memory limit by {over_kb // KB} MB, and there is room for "
                f"{staying_kb // KB} MB of other swap. Stop some programs of it first"
            )


SIGNATURE = b"SWAPSPACE2"
LAST_PAGE_AT = 1028
LABEL_AT = 1052
LABEL_SIZE = 16
BTRFS_SUBVOLUME_INODE = 256
BTRFS_FS_INFO = 0x8400941F  # the ioctl, as in linux/btrfs.h
FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs")
CACHED_MB = 16  # how much of a new file may be in memory, which programs need more


def examined(path: Path, *, blank_unread: bool = False) -> File | None:
    """What a file is; None where there is none.

    Args:
        path: the file.
        blank_unread: whether what is no swap is nothing of worth, whatever it holds.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return File(DATA)
    page = os.sysconf("SC_PAGE_SIZE")
    on_disk = status.st_blocks * 512
    private = not status.st_mode & 0o077 and status.st_uid == 0
    with path.open("rb") as file:
        head = file.read(page)
        if head[-len(SIGNATURE) :] == SIGNATURE:
            label = head[LABEL_AT : LABEL_AT + LABEL_SIZE].rstrip(b"\0")
            (last_page,) = struct.unpack_from("=I", head, LAST_PAGE_AT)
            whole = (last_page + 1) * page == status.st_size and on_disk >= status.st_size
            kind = OURS if label == LABEL else FOREIGN
            return File(kind, status.st_size, on_disk, whole, private)
        file.seek(0)
        blank = blank_unread or not any(any(block) for block in iter(lambda: file.read(MB), b""))
    return File(BLANK if blank else DATA, status.st_size, on_disk, whole=False, private=private)


def areas_of(text: str) -> dict[str, Area]:
    """The areas of /proc/swaps."""
    found = {}
    for line in text.splitlines()[1:]:
        path, *_, size, used, priority = line.split()
        found[path] = Area(path, int(size), int(used), int(priority))
    return found


class Swap:
    """The effects."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        path = Path(module.params["path"])
        self.path = path.parent.resolve() / path.name  # as /proc/swaps has it
        memory_kb = self._memory()["MemTotal"]
        self.wanted = Wanted(
            str(self.path),
            self._size("file", auto_file_mb(memory_kb)) * MB,
            self._size("zram", auto_zram_mb(memory_kb)) * MB,
            module.params["fstab"],
        )

    def _size(self, what: str, auto: int) -> int:
        if not self.module.params[what]:
            return 0
        size = self.module.params[f"{what}_size_mb"]
        if size == "auto":
            return auto
        if not size.isdecimal():
            self.module.fail_json(msg=f"{what}_size_mb: {size} is neither auto nor a whole number")
        return int(size)

    def facts(self) -> Facts:
        """What `plan` asks for."""
        try:
            areas = areas_of(Path("/proc/swaps").read_text())
        except FileNotFoundError:
            raise RefusedError("the running kernel has no swap") from None
        table = Path(self.wanted.fstab)
        fstab = table.read_text() if table.is_file() else ""
        listed = [fields[0] for fields in map(str.split, fstab.splitlines()) if "swap" in fields]
        candidates = {*self.wanted.names, *listed, *areas}
        files = {}
        for name in sorted(candidates):
            path = Path(name)
            is_file = path.is_absolute() and (name in self.wanted.names or path.is_file())
            if is_file and (found := examined(path)):
                files[name] = found
        if part := examined(Path(self.wanted.part), blank_unread=True):
            files[self.wanted.part] = part
        folder = self.path.parent
        disk = os.statvfs(folder) if folder.is_dir() else None
        size = Path("/sys/block/zram0/disksize")
        return Facts(
            available_kb=self._memory()["MemAvailable"],
            disk_free=disk.f_bavail * disk.f_frsize if disk else 0,
            fstab=fstab,
            areas=areas,
            files=files,
            disk_fault=self._disk_fault(),
            zram_fault=self._zram_fault(),
            zram_is_ours=Path(self.module.params["zram_config"]).is_file(),
            zram_bytes=int(size.read_text()) if size.is_file() else 0,
            over_kb=dict(self._over()),
        )

    @staticmethod
    def _memory() -> dict[str, int]:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}

    def _file_system(self) -> str:
        """The type of the file system that the swapfile is on."""
        found = ("/", "")
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            place = left.split()[4]
            if self.path.is_relative_to(place) and len(place) >= len(found[0]):
                found = (place, right.split()[0])  # the last mount on a place is the one on top
        return found[1]

    def _disk_fault(self) -> str:
        folder = self.path.parent
        if not folder.is_dir():
            return f"there is no directory {folder}"
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"{folder} is read-only"
        kind = self._file_system()
        if kind == "btrfs":
            return self._btrfs_fault(folder)
        if kind not in FILE_SYSTEMS:
            return (
                f"the kernel has no safe swapfile on {kind}; allowed: {', '.join(FILE_SYSTEMS)}, "
                f"and btrfs in a subvolume of its own"
            )
        return ""

    def _btrfs_fault(self, folder: Path) -> str:
        """Why btrfs would refuse swap, or refuse snapshots because of it."""
        others = {path.name for path in folder.iterdir()}
        others -= {Path(name).name for name in (*self.wanted.names, self.wanted.part)}
        if folder.stat().st_ino != BTRFS_SUBVOLUME_INODE or others:
            return (
                f"btrfs makes no snapshot of what holds one, so that {folder} has to be a "
                f"subvolume with nothing else in it (`btrfs subvolume create /swap`, and "
                f"swap_path: /swap/swapfile)"
            )
        info = bytearray(KB)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, BTRFS_FS_INFO, info)
        finally:
            os.close(handle)
        (devices,) = struct.unpack_from("=Q", info, 8)
        data = Path(f"/sys/fs/btrfs/{uuid.UUID(bytes=bytes(info[16:32]))}/allocation/data")
        profiles = sorted(path.name for path in data.iterdir() if path.is_dir())
        if devices != 1 or profiles != ["single"]:
            return (
                f"btrfs takes swapfiles only on one device with the data profile single; it has "
                f"{devices}, and {', '.join(profiles)}"
            )
        return ""

    def _zram_fault(self) -> str:
        if not self.wanted.zram_bytes or Path("/sys/class/zram-control").exists():
            return ""
        rc, _, _ = self.module.run_command(["modprobe", "--dry-run", "--quiet", "zram"])
        return no_zram(os.uname().release) if rc else ""

    @staticmethod
    def _over() -> Iterator[tuple[str, int]]:
        """Control groups (v2) that hold more in memory and swap together than their limit."""
        root = Path("/sys/fs/cgroup")
        for limit in root.rglob("memory.max"):
            group = limit.parent
            try:
                most = limit.read_text().strip()
                if most == "max":
                    continue
                current, swapped = (
                    int((group / name).read_text())
                    for name in ("memory.current", "memory.swap.current")
                )
                lines = (group / "memory.stat").read_text().splitlines()
            except OSError:  # it has gone meanwhile
                continue
            parts = dict(line.split() for line in lines)
            cache = int(parts["inactive_file"]) + int(parts["active_file"])
            over = current - cache + swapped - int(most)
            if swapped and over > 0:
                yield f"/{group.relative_to(root)}", over // KB

    def act(self, step: Step, steps: Sequence[Step], fstab: str) -> None:
        """One step of the plan."""
        path = step.path
        if step.what == "make":
            self._make(Path(path))
        elif step.what == "on":
            self._run("swapon", "--priority", str(FILE_PRIORITY), path)
        elif step.what == "off":
            # time has passed since the plan
            facts = self.facts()
            going = [facts.areas[step.path] for step in steps
                     if step.what == "off" and step.path in facts.areas]  # fmt: skip
            refuse_without_room(facts, going)
            self._run("swapoff", path)
        elif step.what == "remove":
            Path(path).unlink()
        elif step.what == "protect":
            os.chown(path, 0, 0)
            Path(path).chmod(0o600)
        elif step.what == "write":
            self._write_fstab(fstab)
        elif step.what == "reset":
            self._run("systemctl", "stop", ZRAM_UNIT)
        else:
            self._run("systemctl", "daemon-reload")
            self._run("systemctl", "restart", ZRAM_UNIT)
            self._run("systemctl", "start", "dev-zram0.swap")

    def _run(self, *command: str) -> None:
        self.module.run_command(list(command), check_rc=True)

    def _make(self, path: Path) -> None:
        """Write zeros: swapon takes no holes, and not every file system's fallocate will do."""
        part = Path(self.wanted.part)
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            if self._file_system() == "btrfs":
                self._run("chattr", "+C", str(part))  # no copy-on-write, and so no compression
            block = bytes(MB)
            try:
                for number in range(1, self.wanted.file_bytes // MB + 1):
                    self._write_all(file.fileno(), block)
                    if number % CACHED_MB == 0:
                        os.fdatasync(file.fileno())
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.fsync(file.fileno())
            except OSError as error:
                part.unlink()
                raise RefusedError(f"{path} can't be written: {error.strerror}") from None
        self._run("mkswap", "--label", LABEL.decode(), str(part))
        part.rename(path)

    @staticmethod
    def _write_all(handle: int, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def _write_fstab(self, text: str) -> None:
        table = self.wanted.fstab
        new = Path(self.module.tmpdir) / "fstab"
        new.write_text(text)
        rc, out, err = self.module.run_command(["findmnt", "--verify", "--tab-file", str(new)])
        if rc and self.module.run_command(["findmnt", "--verify", "--tab-file", table])[0] == 0:
            raise RefusedError(f"{table} would be wrong, and was not touched: {err or out}")
        self.module.atomic_move(str(new), table)
        if Path("/run/systemd/system").is_dir():
            self._run("systemctl", "daemon-reload")  # so that it knows the units of the new file


def diff(facts: Facts, wanted: Wanted, planned: Plan) -> list[dict[str, str]]:
    """This module's swap and the fstab, before and after."""
    if not planned.steps:
        return []
    paths = [*_ours(facts), *([ZRAM] if facts.zram_is_ours else [])]
    areas = [area for area in facts.areas.values() if area.path in paths]
    before = {area.path: (area.size_mb, area.priority) for area in areas}
    after = dict(before)
    for what, path in planned.steps:
        if what == "off":
            del after[path]
        elif what == "on":
            after[path] = (wanted.file_bytes // MB, FILE_PRIORITY)
        elif what == "start":
            after[path] = (planned.zram_bytes // MB, ZRAM_PRIORITY)
    texts = [
        "".join(f"{path}: {size} MB, priority {priority}\n"
                for path, (size, priority) in sorted(state.items()))
        for state in (before, after)
    ]  # fmt: skip
    shown = [("swap", *texts), (wanted.fstab, facts.fstab, planned.fstab)]
    return [
        {"before_header": name, "after_header": name, "before": old, "after": new}
        for name, old, new in shown
        if old != new
    ]


def main() -> None:
    """Plan, then act."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "file": {"type": "bool", "default": True},
            "file_size_mb": {"type": "str", "default": "auto"},
            "zram": {"type": "bool", "default": False},
            "zram_size_mb": {"type": "str", "default": "auto"},
            "zram_config": {"type": "path", "required": True},
            "fstab": {"type": "path", "default": "/etc/fstab"},
        },
        supports_check_mode=True,
    )
    play_lock.at_work(module)
    swap = Swap(module)
    done: list[str] = []
    try:
        facts = swap.facts()
        planned = plan(facts, swap.wanted)
        for step in planned.steps:
            if not module.check_mode:
                swap.act(step, planned.steps, planned.fstab)
            done.append(" ".join(step))
    except RefusedError as refusal:
        told = f"after {', '.join(done)}" if done else "nothing was changed"
        module.fail_json(msg=f"{refusal} ({told}).", steps=done)
    module.exit_json(
        changed=bool(done),
        steps=done,
        notes=planned.notes,
        zram_size_mb=planned.zram_bytes // MB,
        zram_is_ours=facts.zram_is_ours,
        diff=diff(facts, swap.wanted, planned),
    )


if __name__ == "__main__":
    main()
