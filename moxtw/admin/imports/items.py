"""From the files of an archive or folder to messages with mailbox, flags and time. Blocks."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Final

from moxtw.admin.imports.archive import READ, ArchiveError, Entry, entries, folder, kind_of
from moxtw.mail import maildir, mbox
from moxtw.store.content import Contents, Spooled
from moxtw.store.errors import InvalidMailboxName
from moxtw.store.flagnames import known_flags
from moxtw.store.gathering import Gatherer
from moxtw.store.mailboxes import valid_name

MAX_MESSAGE: Final = 256 << 20
"""Largest message, in bytes; larger ones are skipped."""
_FOLDERS: Final = ("new", "cur", "tmp")


@dataclass(slots=True)
class Item:
    """A message of the source; `received` in microseconds, None if the source does not say.

    number: counts the messages of the source, from 1. place: where it stands, for people.
    content: None if the message was skipped.
    """

    number: int
    mailbox: str
    place: str
    flags: int
    keywords: tuple[str, ...]
    received: int | None
    content: Spooled | None


@dataclass(frozen=True, slots=True)
class Folder:
    """A mailbox that is to be there, with messages or without."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is skipped, in words for people."""

    text: str


Found = Item | Folder | Problem


@dataclass
class Source:
    """What is imported.

    file: an mbox or an archive, or path: a folder. kind: what `kind_of` says of the file,
    "folder", "maildir" for a single maildir. prefix: begins names of mailboxes in the archive
    and is left away. mailbox: where the messages of an mbox or maildir go, and below which
    the mailboxes of an archive go if it is not empty.
    """

    kind: str
    name: str
    file: IO[bytes] | None = None
    size: int = 0
    path: str = ""
    prefix: str = ""
    mailbox: str = ""
    keywords: dict[str, Mapping[str, str]] = field(default_factory=dict)
    total: int = 0

    def entries(self) -> Iterator[Entry]:
        """The entries. Raises ArchiveError, OSError."""
        if self.file is None:
            return folder(self.path)
        return entries(self.file, self.kind, self.size)

    def digest(self) -> str:
        """What tells this source from others."""
        hashed = hashlib.sha256()
        for text in (self.kind, self.prefix, self.mailbox):
            hashed.update(text.encode("utf-8", "replace") + b"\0")
        if self.file is None:
            hashed.update(self.path.encode("utf-8", "surrogateescape"))
            for entry in self.entries():
                # The flags of a file may change meanwhile, and where it lies.
                unique = entry.name.rpartition("/")[2].partition(":2,")[0]
                hashed.update(f"{unique}\0{entry.size}\0".encode("utf-8", "replace"))
        else:
            self.file.seek(0)
            while data := self.file.read(1 << 20):
                hashed.update(data)
        return hashed.hexdigest()

    def scan(self) -> None:
        """Look through it once: finds keywords, and damage before anything is changed.

        Raises ArchiveError, MboxError, OSError.
        """
        if self.kind == "mbox":
            return
        total = 0
        for entry in self.entries():
            name = entry.name.rpartition("/")
            if name[2] == maildir.KEYWORDS_FILE and entry.kind == "file":
                data = _some(entry, maildir.MAX_KEYWORDS_FILE)
                self.keywords[name[0]] = maildir.parse_keywords(data)
            elif entry.kind == "file":
                total += 1
        self.total = total


def _some(entry: Entry, limit: int) -> bytes:
    parts = []
    while limit > 0 and (data := entry.read(min(limit, READ))):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)


def read(source: Source, contents: Contents, skip: int) -> Iterator[Found]:
    """What is in a source, without the content of the first `skip` messages.

    Raises ArchiveError, OSError; MboxError for a file that is no mbox.
    """
    reader = _Reader(source, contents, skip)
    if source.kind == "mbox":
        assert source.file is not None
        source.file.seek(0)
        return reader.mbox(source.mailbox, source.name, source.file.read)
    return reader.archive()


def mailbox_name(text: str) -> str:
    """A name as mailboxes may have it. Raises InvalidMailboxName."""
    parts = unicodedata.normalize("NFC", text).split("/")
    parts = [part for part in parts if part not in ("", ".")]
    return valid_name("/".join(parts))


class _Reader:
    def __init__(self, source: Source, contents: Contents, skip: int) -> None:
        self._source = source
        self._contents = contents
        self._skip = skip
        self._number = 0

    def archive(self) -> Iterator[Found]:
        for entry in self._source.entries():
            place = _shown(entry.name)
            problem = _bad_name(entry.name)
            if problem:
                yield Problem(f"{place}: {problem} (skipping)")
            elif entry.kind == "dir":
                yield from self._directory(entry.name)
            elif entry.kind != "file":
                yield Problem(f"{place}: not an ordinary file (skipping)")
            else:
                yield from self._file(entry, place)

    def _mailbox(self, name: str) -> str:
        """The mailbox for a name in the archive. Raises InvalidMailboxName."""
        if self._source.kind == "maildir":
            return mailbox_name(self._source.mailbox)
        prefix = self._source.prefix
        if prefix and name.startswith(prefix):
            name = name[len(prefix) :].lstrip("/")
        if self._source.mailbox:
            name = f"{self._source.mailbox}/{name}"
        return mailbox_name(name.strip("/") or "Inbox")

    def _directory(self, name: str) -> Iterator[Found]:
        above, _, last = name.rstrip("/").rpartition("/")
        if last not in ("new", "cur"):
            return
        try:
            yield Folder(self._mailbox(above))
        except InvalidMailboxName as exc:
            yield Problem(f"{_shown(name)}: {exc} (skipping)")

    def _file(self, entry: Entry, place: str) -> Iterator[Found]:
        above, _, last = entry.name.rpartition("/")
        if last == maildir.KEYWORDS_FILE:
            return
        name, _, directory = above.rpartition("/")
        in_maildir = directory in _FOLDERS
        if directory == "tmp":
            return  # Messages that were not complete.
        if self._source.kind == "maildir":
            if name or not in_maildir:
                if last not in _MAILDIR_FILES:
                    yield Problem(f"{place}: not a message of the maildir (skipping)")
                return
        elif last.endswith(".mbox") and not in_maildir:
            name = entry.name[: -len(".mbox")]
        elif not in_maildir:
            yield Problem(f"{place}: neither mbox nor maildir (skipping)")
            return
        try:
            mailbox = self._mailbox(name)
        except InvalidMailboxName as exc:
            yield Problem(f"{place}: {exc} (skipping)")
            return
        if in_maildir:
            yield self._message(entry, place, mailbox, name)
            return
        try:
            yield from self.mbox(mailbox, place, entry.read)
        except mbox.MboxError as exc:
            yield Problem(f"{place}: {exc} (skipping the rest of it)")

    def _skipped(self) -> bool:
        """Count a message; whether it was imported before."""
        self._number += 1
        return self._number <= self._skip

    def _message(self, entry: Entry, place: str, mailbox: str, name: str) -> Item:
        if self._skipped():
            return Item(self._number, mailbox, place, 0, (), None, None)
        received, flags, letters = maildir.parse_name(entry.name.rpartition("/")[2])
        if received is None and self._source.file is None and entry.modified is not None:
            received = int(entry.modified * 1_000_000)
        words = self._source.keywords.get(name, {})
        flags |= {words[letter] for letter in letters if letter in words}
        bits, keywords = known_flags(flags)
        content = _Content(self._contents)
        try:
            held = b""
            while data := entry.read(READ):
                data = held + data
                # An end of line must not be cut in two.
                held = data[-1:] if data.endswith(b"\r") else b""
                content.write(mbox.crlf(data[: len(data) - len(held)]))
            content.write(held)
            return Item(
                self._number, mailbox, place, bits, keywords, received, content.finish()
            )
        except BaseException:
            content.discard()
            raise

    def mbox(
        self, mailbox: str, place: str, source: Callable[[int], bytes]
    ) -> Iterator[Found]:
        yield Folder(mailbox)
        content: _Content | None = None
        flags: set[str] = set()
        received: int | None = None
        number = 0
        try:
            for part in mbox.read(source):
                if isinstance(part, mbox.Start):
                    number += 1
                    if self._skipped():
                        yield Item(self._number, mailbox, place, 0, (), None, None)
                        continue
                    content = _Content(self._contents)
                    flags, received = set(), mbox.parse_from_line(part.from_line)
                    continue
                if content is None:
                    continue
                if part.first:
                    data, flags = mbox.take_status(part.data)
                    part = part._replace(data=data)
                content.write(mbox.unquote(part))
                if part.last:
                    done, content = content.finish(), None
                    bits, keywords = known_flags(flags)
                    at = f"{place} message {number}"
                    yield Item(self._number, mailbox, at, bits, keywords, received, done)
        finally:
            if content is not None:
                content.discard()


class _Content:
    """Gathers a message; one that is too large is forgotten, and has no content."""

    def __init__(self, contents: Contents) -> None:
        self._gatherer: Gatherer | None = Gatherer(contents)

    def write(self, data: bytes) -> None:
        if self._gatherer is not None and data:
            self._gatherer.write(data)
            if self._gatherer.size > MAX_MESSAGE:
                self.discard()

    def finish(self) -> Spooled | None:
        return None if self._gatherer is None else self._gatherer.finish()

    def discard(self) -> None:
        if self._gatherer is not None:
            self._gatherer.discard()
            self._gatherer = None


_MAILDIR_FILES: Final = frozenset(
    ("maildirfolder", "subscriptions", "dovecot-uidlist", "dovecot-uidvalidity", "maildirsize")
)


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name[:200])


def _bad_name(name: str) -> str:
    """What is wrong with the path of an entry, '' if nothing is."""
    if name.startswith("/"):
        return "absolute path"
    if len(name) >= 2 and name[1] == ":" and name[0].isalpha() and "/" not in name[:2]:
        return "absolute path" if name[2:3] in ("/", "\\") else ""
    if ".." in name.split("/"):
        return "path with .."
    if "\0" in name:
        return "path with NUL"
    return ""


def open_source(
    file: IO[bytes], name: str, size: int, *, prefix: str = "", mailbox: str = ""
) -> Source:
    """A file as a source: an archive, or an mbox, by its content. Raises ArchiveError."""
    file.seek(0)
    kind = kind_of(file.read(512))
    if not kind:
        raise ArchiveError("neither a zip nor a (gzipped) tar file nor an mbox")
    if kind == "mbox" and not mailbox:
        base = name.replace("\\", "/").rpartition("/")[2]
        mailbox = mailbox_name(base.removesuffix(".mbox") or "Inbox")
    return Source(kind, name, file, size, prefix=prefix, mailbox=mailbox)
