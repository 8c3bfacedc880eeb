"""Makes inputs out of examples, tries them until the time is over, and makes failures small."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

MAX_SIZE: Final = 64 * 1024
"""Bytes of an input, at most."""

SLOW: Final = 15.0
"""Seconds after which an input has taken too long, on a busy machine: nothing is that hard."""

_POOL: Final = 300
_SHRINK_SECONDS: Final = 20.0
_BYTES: Final = (b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b'"', b"\\", b"(", b")", b"<", b">",
                 b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80",
                 b"=", b"%", b"{", b"}", b"&", b"-1", b"0", b"4294967296", b"9" * 40)  # fmt: skip


class Mutator:
    """Inputs made of examples: pieces dropped, repeated, swapped, replaced by tokens."""

    def __init__(
        self, rng: random.Random, examples: Sequence[bytes], tokens: Sequence[bytes]
    ) -> None:
        self._rng = rng
        self._pool = list(examples)
        self._fixed = len(self._pool)
        self._tokens = [*tokens, *_BYTES]

    def next(self) -> bytes:
        """Another input."""
        rng = self._rng
        data = rng.choice(self._pool)
        for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
            data = rng.choice(_MUTATIONS)(self, data)
        data = data[:MAX_SIZE]
        if rng.random() < 0.05:
            # Some go on to be changed further; the examples stay.
            if len(self._pool) < self._fixed + _POOL:
                self._pool.append(data)
            else:
                self._pool[rng.randrange(self._fixed, len(self._pool))] = data
        return data

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._rng.randrange(len(data) + 1)
        length = self._rng.choice((0, 1, 2, 5, 20, 100, 1000))
        return start, min(start + self._rng.randint(0, length), len(data))

    def _delete(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        times = self._rng.choice((1, 1, 2, 10, 100, 2000))
        if end > start:
            times = min(times, MAX_SIZE // (end - start))
        return data[:end] + data[start:end] * times + data[end:]

    def _insert(self, data: bytes) -> bytes:
        start, _ = self._span(data)
        return data[:start] + self._rng.choice(self._tokens) + data[start:]

    def _replace(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + self._rng.choice(self._tokens) + data[end:]

    def _noise(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + self._rng.randbytes(self._rng.randint(1, 8)) + data[end:]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._rng.randrange(8)]) + data[at + 1 :]

    def _join(self, data: bytes) -> bytes:
        other = self._rng.choice(self._pool)
        start, end = self._span(other)
        at = self._rng.randrange(len(data) + 1)
        if self._rng.random() < 0.5:
            return data[:at] + other[start:end] + data[at:]
        return data[:at] + other[start:]

    def _swap_lines(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        if len(lines) < 2:
            return data
        a, b = self._rng.randrange(len(lines)), self._rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
        return b"".join(lines)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._rng.randrange(len(data) + 1)]


_MUTATIONS: Final = (
    Mutator._delete,
    Mutator._repeat,
    Mutator._insert,
    Mutator._insert,
    Mutator._replace,
    Mutator._noise,
    Mutator._flip,
    Mutator._join,
    Mutator._swap_lines,
    Mutator._cut,
)


class FuzzCase(SynchronousTestCase):
    """A test calls `fuzz` once, with a function that fails when an input shows a fault."""

    def fuzz(
        self,
        check: Callable[[bytes], object],
        examples: Sequence[bytes],
        tokens: Sequence[bytes] = (),
    ) -> None:
        """Call `check` with inputs made of `examples` until the time is over."""
        seed = int(os.environ.get("MOXTW_FUZZ_SEED") or random.randrange(1 << 32))
        mutator = Mutator(random.Random(seed), examples, tokens)
        for example in examples:
            check(example)
        end = time.monotonic() + seconds()
        count = 0
        now = time.monotonic()
        while now < end:
            data = mutator.next()
            try:
                check(data)
                took, now = time.monotonic() - now, time.monotonic()
                if took > SLOW:
                    raise AssertionError(f"took {took:.1f} s")
            except Exception as exc:
                small = shrink(check, data, type(exc))
                raise AssertionError(
                    f"seed {seed}, input {count}, {type(exc).__name__}: {exc}\n"
                    f"{len(small)} bytes: {small[:4000]!r}"
                ) from exc
            count += 1
        if "MOXTW_FUZZ_MINUTES" in os.environ:
            sys.stderr.write(f"{self.id()}: {count} inputs, seed {seed}\n")


def seconds() -> float:
    """The time of one test."""
    minutes = os.environ.get("MOXTW_FUZZ_MINUTES")
    if not minutes:
        return 1.0
    return float(minutes) * 60 / max(1, len(_tests(FuzzCase)))


def _tests(case: type[FuzzCase]) -> set[str]:
    """The names of all tests that have been loaded."""
    found = {f"{case.__qualname__}.{name}" for name in dir(case) if name.startswith("test_")}
    for subclass in case.__subclasses__():
        found |= _tests(subclass)
    return found


def shrink(check: Callable[[bytes], object], data: bytes, error: type[Exception]) -> bytes:
    """A smaller input with an error of the same type, if one is found in some seconds."""

    def fails(candidate: bytes) -> bool:
        try:
            check(candidate)
        except Exception as exc:  # noqa: BLE001 - whatever the fault raises
            return type(exc) is error
        return False

    end = time.monotonic() + _SHRINK_SECONDS
    size = max(1, len(data) // 2)
    while time.monotonic() < end:
        at = 0
        smaller = False
        while at < len(data) and time.monotonic() < end:
            candidate = data[:at] + data[at + size :]
            if fails(candidate):
                data = candidate
                smaller = True
            else:
                at += size
        if size == 1 and not smaller:
            break
        size = max(1, size // 2)
    return data
