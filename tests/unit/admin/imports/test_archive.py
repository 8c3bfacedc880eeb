"""Archives: those of the standard library are read, hostile ones are refused or bounded."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.imports import archive
from moxtw.admin.imports.archive import ArchiveError

FILES = {"a.mbox": b"From x\n\nhi\n", "In/cur/1.x:2,S": b"A: b\n\n" * 400, "é/" + "n" * 200: b""}


def make_tar(files: dict[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=format) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 5
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return out.getvalue()


def listed(data: bytes) -> list[tuple[str, str, bytes]]:
    """Name, kind and content of all entries."""
    kind = archive.kind_of(data[:512])
    found = []
    for entry in archive.entries(io.BytesIO(data), kind, len(data)):
        parts = []
        while part := entry.read(100):
            parts.append(part)
        found.append((entry.name, entry.kind, b"".join(parts)))
    return found


class ArchiveTests(SynchronousTestCase):
    def test_archives_of_the_standard_library(self) -> None:
        expected = [(name, "file", data) for name, data in FILES.items()]
        for data in [
            make_tar(FILES),
            make_tar(FILES, format=tarfile.GNU_FORMAT),
            make_tar(FILES, "w:gz"),
            make_zip(FILES),
            make_zip(FILES, zipfile.ZIP_STORED),
        ]:
            self.assertEqual(listed(data), expected)
        self.assertEqual(listed(make_tar({})), [])
        self.assertEqual(listed(make_zip({})), [])

    def test_contents_can_be_left_unread(self) -> None:
        for data in [make_tar(FILES), make_zip(FILES)]:
            found = archive.entries(io.BytesIO(data), archive.kind_of(data), len(data))
            self.assertEqual([entry.name for entry in found], list(FILES))

    def test_kinds(self) -> None:
        self.assertEqual(archive.kind_of(b"From x\n"), "mbox")
        for other in [b"", b"x" * 600, b"PK", b"\x1f\x8b", b"BZh91AY"]:
            self.assertEqual(archive.kind_of(other), "", other)

    def test_links_and_devices_are_no_files(self) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                info = tarfile.TarInfo("x")
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
            folder = tarfile.TarInfo("d")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        kinds = [kind for _, kind, _ in listed(out.getvalue())]
        self.assertEqual(kinds, ["other"] * 4 + ["dir"])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            link = zipfile.ZipInfo("link")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            file.writestr(link, "/etc/passwd")
            file.writestr("d/", "")
        self.assertEqual([k for _, k, _ in listed(out.getvalue())], ["other", "dir"])

    def test_bombs_are_stopped(self) -> None:
        self.patch(archive, "ALLOWANCE", 100_000)
        self.patch(archive, "RATIO", 20)
        big = {"a.mbox": b"\0" * 5_000_000}
        for data in [make_tar(big, "w:gz"), make_zip(big)]:
            self.assertRaises(ArchiveError, listed, data)
        # Not being read does not help a tar file.
        data = make_tar(big, "w:gz")
        with self.assertRaises(ArchiveError):
            for _ in archive.entries(io.BytesIO(data), "tgz", len(data)):
                pass

    def test_overlapping_members_count_each_time(self) -> None:
        self.patch(archive, "ALLOWANCE", 10_000)
        self.patch(archive, "RATIO", 1)
        plain = make_zip({"a": b"x" * 9_000})
        start = plain.index(b"PK\x01\x02")
        end = plain.index(b"PK\x05\x06")
        entry = plain[start:end]
        tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 50, 50, len(entry) * 50, start, 0)
        self.assertRaises(ArchiveError, listed, plain[:start] + entry * 50 + tail)

    def test_lies_about_sizes(self) -> None:
        plain = make_zip({"a": b"x" * 500})
        at = plain.index(b"PK\x01\x02")
        for size in (100, 5000):
            lying = plain[: at + 24] + struct.pack("<I", size) + plain[at + 28 :]
            self.assertRaises(ArchiveError, listed, lying)
        wrong = plain[: at + 16] + b"abcd" + plain[at + 20 :]
        self.assertRaises(ArchiveError, listed, wrong)
        header = bytearray(make_tar({"a": b"x"})[:512])
        header[124:136] = b"\x80" + b"\xff" * 11
        header[148:156] = b"%06o\0 " % archive._checksum(bytes(header))
        self.assertRaises(ArchiveError, listed, bytes(header) + b"\0" * 1024)

    def test_huge_headers(self) -> None:
        header = bytearray(make_tar({"a": b"x"})[:512])
        for kind in (b"x", b"L"):
            header[156:157] = kind
            header[124:136] = b"%011o\0" % (1 << 30)
            header[148:156] = b"%06o\0 " % archive._checksum(bytes(header))
            self.assertRaises(ArchiveError, listed, bytes(header) + b"\0" * 1024)

    @settings(max_examples=150, deadline=None, database=None)
    @given(
        st.sampled_from([make_tar(FILES), make_tar(FILES, "w:gz"), make_zip(FILES)]),
        st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=5),
        st.integers(0, 5000),
    )
    def test_damage_is_told(self, data: bytes, changes: Any, cut: int) -> None:
        damaged = bytearray(data[: max(len(data) - cut, 300)])
        for place, value in changes:
            damaged[place % len(damaged)] = value
        kind = archive.kind_of(data[:512])
        try:
            for entry in archive.entries(io.BytesIO(bytes(damaged)), kind, len(damaged)):
                while entry.read(1000):
                    pass
        except ArchiveError:
            pass

    def test_cut_off_compression(self) -> None:
        data = gzip.compress(make_tar(FILES))
        self.assertRaises(ArchiveError, listed, data[:-20])

    def test_folders(self) -> None:
        path = self.mktemp()
        os.makedirs(f"{path}/b/cur")
        for name in ["b/cur/2", "b/cur/1", "a"]:
            with open(f"{path}/{name}", "wb") as file:
                file.write(name.encode())
        os.symlink("/etc/passwd", f"{path}/b/link")
        os.mkfifo(f"{path}/b/pipe")
        found = [
            (entry.name, entry.kind, entry.read(10)) for entry in archive.folder(path)
        ]
        self.assertEqual(
            found,
            [
                ("a", "file", b"a"),
                ("b", "dir", b""),
                ("b/cur", "dir", b""),
                ("b/link", "other", b""),
                ("b/pipe", "other", b""),
                ("b/cur/1", "file", b"b/cur/1"),
                ("b/cur/2", "file", b"b/cur/2"),
            ],
        )
