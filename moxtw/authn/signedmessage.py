"""A message as those see it who check its signatures: its fields, and hashes of its body.

All checks of one message share it, so that the header is read once and the body hashed once
for all signatures that want the same form.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import DeferredLock

from moxtw.authn.dkimcanon import BodyHash, SignedFields
from moxtw.mail.header import MAX_HEADER_BYTES, find_body

T = TypeVar("T")

# Work on messages up to this size is done at once: to hand it to a thread costs more.
_QUICK: Final = 64 * 1024
_QUICK_HEADER: Final = 16 * 1024
# Pieces in which bodies are read. The hash of each lets other threads run.
_PIECE: Final = 64 * 1024


class Source(Protocol):
    """The bytes of a message."""

    @property
    def size(self) -> int:
        """How many."""

    def read(self, start: int, length: int) -> bytes:
        """A piece of them."""


class Run(Protocol):
    """Runs a function where it may take its time: ``Store.run``, ``deferToThread``."""

    def __call__(self, fn: Callable[[], T], /) -> Awaitable[T]:
        """Its result."""
        ...


async def run_here(fn: Callable[[], T]) -> T:
    """Run a function at once."""
    return fn()


class BytesSource:
    """A message in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, length: int) -> bytes:
        """A piece of it."""
        return self._data[start : start + length]


class BodyForm(NamedTuple):
    """What a body hash is of: algorithm, canonical form, and length if not all counts."""

    algorithm: str
    relaxed: bool
    length: int | None = None


class Digest(NamedTuple):
    """A body's hash; `missing`: by how many bytes it is shorter than the length asked for."""

    value: bytes
    missing: int


class SignedMessage:
    """A message to check signatures of; made with `open`.

    header: its header section, empty if `too_large`: longer than is looked at.
    """

    def __init__(
        self, source: Source, header: bytes, body: int, fields: SignedFields, run: Run
    ) -> None:
        self._source = source
        self._body = body
        self._run = run
        self._lock = DeferredLock()
        self._hashes: dict[BodyForm, Digest] = {}
        self.header = header
        self.fields = fields
        self.too_large = body < 0
        self.quick = source.size <= _QUICK and len(header) <= _QUICK_HEADER

    @classmethod
    async def open(cls, source: Source, run: Run = run_here) -> SignedMessage:
        """Read the header. Raises OSError."""

        def read() -> tuple[bytes, int, SignedFields]:
            data = source.read(0, min(source.size, MAX_HEADER_BYTES + 4))
            body = find_body(data, 0, len(data))
            if body > MAX_HEADER_BYTES:
                return b"", -1, SignedFields(b"")
            return data[:body], body, SignedFields(data[:body])

        found = read() if source.size <= _QUICK else await run(read)
        return cls(source, *found, run)

    async def work(self, fn: Callable[[], T], *, costly: bool = False) -> T:
        """Run a function over the message: at once if that is quick, else where there is time."""
        if self.quick and not costly:
            return fn()
        return await self._run(fn)

    async def body_hashes(self, forms: Iterable[BodyForm]) -> dict[BodyForm, Digest]:
        """Hashes of the body. Raises OSError."""
        wanted = set(forms)
        await self._lock.acquire()
        try:
            missing = wanted - self._hashes.keys()
            if missing:
                self._hashes.update(await self.work(lambda: self._hash(missing)))
        finally:
            self._lock.release()
        return {form: self._hashes[form] for form in wanted}

    def _hash(self, forms: Iterable[BodyForm]) -> dict[BodyForm, Digest]:
        hashers = {
            form: BodyHash(form.algorithm, relaxed=form.relaxed, length=form.length)
            for form in forms
        }
        at = self._body
        while at < self._source.size:
            piece = self._source.read(at, _PIECE)
            if not piece:
                raise OSError("message is shorter than it was")
            at += len(piece)
            for hasher in hashers.values():
                hasher.update(piece)
        return {
            form: Digest(hasher.digest(), hasher.missing) for form, hasher in hashers.items()
        }
