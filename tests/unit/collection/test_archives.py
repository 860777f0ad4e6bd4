"""Archives of strangers: what is unpacked, and what is refused with nothing written outside."""

import io
import os
import random
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.kechi.vps.plugins.plugin_utils import archives
from ansible_collections.kechi.vps.plugins.plugin_utils.archives import ArchiveError, Limits


def member(name, content=b"", kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def link(name, target):
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name, target):
    return member(name, kind=tarfile.LNKTYPE, link=target)


def tar(path, *members, mode="w:gz", **more):
    with tarfile.open(path, mode, **more) as packed:
        for info, content in members:
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path):
    """Where it is unpacked; nothing else may come to be in its parent."""
    folder = tmp_path / "parent" / "folder"
    folder.mkdir(parents=True)
    before = os.umask(0o022)  # ours may be private
    yield folder
    os.umask(before)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_of_any_kind_is_unpacked(tmp_path, folder, mode, form):
    long = "/".join(["a" * 40] * 4) + "/file"
    members = [
        member("./run", b"x", mode=0o6755), member(long, b"long"), member("data", b"y", mode=0o666),
        link("here", "data"), link("up/there", "../data"), hard_link("copy", "data"),
        member("empty", kind=tarfile.DIRTYPE),
    ]  # fmt: skip
    archives.unpack(tar(tmp_path / "x", *members, mode=mode, format=form), folder)
    assert (folder / long).read_bytes() == b"long"
    assert (folder / "run").stat().st_mode & 0o7777 == 0o755
    assert (folder / "data").stat().st_mode & 0o7777 == 0o644
    assert (folder / "up" / "there").read_bytes() == (folder / "here").read_bytes() == b"y"
    assert (folder / "copy").read_bytes() == b"y"
    assert (folder / "copy").stat().st_nlink == 1
    assert (folder / "empty").is_dir()


def zip_entry(name, mode=0, system=3):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = system, mode << 16
    return info


def zipped(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info, content in entries:
            packed.writestr(info, content)
    return path


def test_a_zip_is_unpacked_with_its_run_bits_and_links(tmp_path, folder):
    entries = [
        (zip_entry("run", 0o100755), b"x"), (zip_entry("of-windows", 0o777, system=0), b"w"),
        (zip_entry("d/", 0o40755), b""), (zip_entry("d/link", 0o120777), b"../run"),
    ]  # fmt: skip
    archives.unpack(zipped(tmp_path / "x.zip", *entries), folder)
    assert (folder / "run").stat().st_mode & 0o777 == 0o755
    assert (folder / "of-windows").stat().st_mode & 0o777 == 0o644
    assert str((folder / "d" / "link").readlink()) == "../run"


# as in CVE-2025-4517: a path that is too long to be resolved hides where the last link ends
def _too_long_to_resolve():
    step = "d" * 247
    path, members = "", []
    for letter in "abcdefghijklmnop":
        members += [member(f"{path}{step}", kind=tarfile.DIRTYPE), link(f"{path}{letter}", step)]
        path = f"{path}{step}/"
    short = "/".join("abcdefghijklmnop")
    members.append(link(f"{short}/{'l' * 254}", "../" * 16))
    members.append(link("escape", f"{short}/{'l' * 254}/../../escaped"))
    return [*members, hard_link("flag", "escape"), member("flag", b"overwritten")]


OUTSIDE = {
    "an absolute name": [member("/tmp/kechi-escaped", b"x")],
    "a name with ..": [member("a/../../escaped", b"x")],
    "a name of Windows": [member("..\\escaped", b"x")],
    "a link to the parent": [link("up", "..")],
    "an absolute link": [link("etc", "/etc/passwd")],
    "a file below a link": [link("up", ".."), member("up/escaped", b"x")],
    "a file below a link that comes later": [member("up/escaped", b"x"), link("up", "..")],
    "a file through a link of its name": [link("file", "../escaped"), member("file", b"x")],
    "a link through a link": [link("a", "b/.."), link("b", ".."), member("c", b"x")],
    "links in a ring": [link("a", "b"), link("b", "a")],
    "a link to nothing": [link("a", "nothing")],
    "an empty link": [link("a", "")],
    "a hard link to outside": [hard_link("a", "../../../etc/passwd")],
    "an absolute hard link": [hard_link("a", "/etc/passwd")],
    "a hard link through a link": [link("a", "/etc/passwd"), hard_link("b", "a")],
    "a link too long to resolve": _too_long_to_resolve(),
}


@pytest.mark.parametrize("members", OUTSIDE.values(), ids=OUTSIDE)
def test_an_archive_that_reaches_outside_is_refused(tmp_path, folder, members):
    packed = tar(tmp_path / "x", *members)
    with pytest.raises((ArchiveError, OSError)):
        archives.unpack(packed, folder)
    for path in folder.rglob("*"):
        assert path.is_symlink() or path.resolve().is_relative_to(folder)


@pytest.mark.parametrize("name", ["/escaped", "../escaped", "a/../../escaped"])
def test_a_zip_that_reaches_outside_is_refused(tmp_path, folder, name):
    with pytest.raises(ArchiveError, match="may reach outside"):
        archives.unpack(zipped(tmp_path / "x.zip", (zip_entry(name), b"x")), folder)


def test_a_link_of_a_zip_to_outside_is_refused(tmp_path, folder):
    (folder.parent.parent / "secret").write_text("x")
    entries = [(zip_entry("a", 0o120777), b"../../secret")]
    with pytest.raises(ArchiveError, match="link to outside"):
        archives.unpack(zipped(tmp_path / "x.zip", *entries), folder)


SPECIAL = {
    "a pipe": member("a", kind=tarfile.FIFOTYPE),
    "a device": member("a", kind=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a disk": member("a", kind=tarfile.BLKTYPE),
    "a sparse file": member("a", pax_headers={"GNU.sparse.size": "9999999999999"}),
}


@pytest.mark.parametrize("special", SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_file_directory_or_link_is_refused(tmp_path, folder, special):
    with pytest.raises(ArchiveError):
        archives.unpack(tar(tmp_path / "x", special), folder)
    assert list(folder.iterdir()) == []


def test_a_pipe_in_a_zip_is_refused(tmp_path, folder):
    with pytest.raises(ArchiveError, match="a device or a pipe"):
        archives.unpack(zipped(tmp_path / "x.zip", (zip_entry("a", 0o010644), b"")), folder)


@pytest.mark.parametrize("second", [member("a", b"2"), link("./a", "b"), member("a/b", b"2")])
def test_two_members_of_one_name_are_refused(tmp_path, folder, second):
    members = [member("a", b"1"), member("b", b"1"), second]
    with pytest.raises(ArchiveError, match=r"twice|no directory"):
        archives.unpack(tar(tmp_path / "x", *members), folder)
    assert list(folder.iterdir()) == []


def test_more_than_may_be_in_it_is_refused_before_anything_is_written(tmp_path, folder):
    packed = tar(tmp_path / "x", *(member(f"{number}", b"12345") for number in range(4)))
    archives.unpack(packed, folder, Limits(members=4, bytes=20))
    for limits in (Limits(members=3, bytes=20), Limits(members=4, bytes=19)):
        other = folder / "other"
        other.mkdir()
        with pytest.raises(ArchiveError, match="more than"):
            archives.unpack(packed, other, limits)
        other.rmdir()


def test_copies_by_hard_links_count(tmp_path, folder):
    members = [member("a", b"x" * 1000), *(hard_link(f"{number}", "a") for number in range(9))]
    packed = tar(tmp_path / "x", *members)
    archives.unpack(packed, folder, Limits(bytes=10_000))
    with pytest.raises(ArchiveError, match="more than 9999 bytes"):
        archives.unpack(packed, folder, Limits(bytes=9_999))


@pytest.mark.parametrize("kind", archives._EXTENSIONS)
def test_a_header_that_is_larger_than_memory_is_refused(tmp_path, folder, kind):
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 7 << 30
    (tmp_path / "x").write_bytes(header.tobuf() + bytes(1024))
    with pytest.raises(ArchiveError, match="a header of 7516192768 bytes"):
        archives.unpack(tmp_path / "x", folder)


def test_a_stream_that_grows_without_end_is_refused(tmp_path, folder):
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.XGLTYPE, 1 << 20
    record = b"1048575 comment=" + b"x" * ((1 << 20) - 17) + b"\n"
    with (tmp_path / "x").open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
        for _ in range(8):
            packed.fileobj.write(header.tobuf() + record)
    with pytest.raises(ArchiveError):
        archives.unpack(tmp_path / "x", folder, Limits(members=10, bytes=1 << 20))


def test_an_offset_that_leads_back_comes_to_an_end(tmp_path, folder):
    # as in CVE-2025-8194: such a member is read for ever; a later Python sees the end in it
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": "-1024"}
    (tmp_path / "x").write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    with suppress(ArchiveError):
        archives.unpack(tmp_path / "x", folder, Limits(members=100))
    assert list(folder.iterdir()) == []


def test_a_member_that_holds_more_than_it_says_is_refused(tmp_path, folder):
    packed = zipped(tmp_path / "x.zip", (zip_entry("a"), b"x" * 100_000))
    content = packed.read_bytes()
    packed.write_bytes(content.replace((100_000).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    with pytest.raises(ArchiveError):
        archives.unpack(packed, folder)


def test_damaged_archives_are_refused_and_reach_nothing(tmp_path, folder):
    random.seed(7)
    good = [
        tar(tmp_path / "good.tar", member("a/b", b"x" * 2000), link("c", "a/b"), mode="w:"),
        tar(tmp_path / "good.tar.gz", member("a/b", b"x" * 2000), link("c", "a/b")),
        zipped(tmp_path / "good.zip", (zip_entry("a/b"), b"x" * 2000)),
    ]
    refused = 0
    for number in range(600):
        content = bytearray(good[number % 3].read_bytes())
        for _ in range(random.randint(1, 4)):
            content[random.randrange(len(content))] = random.randrange(256)
        content = content[: random.choice([len(content), random.randrange(len(content))])]
        damaged, inside = tmp_path / "damaged", folder / f"{number}"
        damaged.write_bytes(content)
        inside.mkdir()
        try:
            archives.unpack(damaged, inside, Limits(members=100, bytes=100_000))
        except (ArchiveError, OSError):
            refused += 1
        for path in Path(inside).rglob("*"):
            assert path.is_symlink() or path.resolve().is_relative_to(inside)
    assert 100 < refused < 600
