"""A Bloom filter: which words were seen before, in little space.

Words that come only once are most of all words. Whoever counts many messages marks a word here
when it comes the first time, and counts it from the second time on.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final

BITS: Final = 1 << 25
POSITIONS: Final = 10


class Bloom:
    """`POSITIONS` bits for each word, taken from its BLAKE2b-256, 25 bits each.

    The digest is read as a stream, high bit first. Bit p is byte p / 8, most significant bit
    first.
    """

    _WIDTH: Final = BITS.bit_length() - 1

    def __init__(self, data: bytes | None = None) -> None:
        """Empty, or from bytes. Raises ValueError for a wrong size."""
        self.data = bytearray(BITS // 8) if data is None else bytearray(data)
        if len(self.data) != BITS // 8:
            raise ValueError(f"a bloom filter has {BITS // 8} bytes, not {len(self.data)}")

    @classmethod
    def load(cls, path: Path) -> Bloom:
        """From a file, empty if there is none. Raises OSError, ValueError."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            return cls()

    def positions(self, word: str) -> list[int]:
        """The bits of a word."""
        digest = blake2b(word.encode("utf-8", "replace"), digest_size=32).digest()
        number = int.from_bytes(digest, "big")
        mask = BITS - 1
        return [(number >> (256 - self._WIDTH * (n + 1))) & mask for n in range(POSITIONS)]

    def __contains__(self, word: str) -> bool:
        data = self.data
        return all(data[p >> 3] & (0x80 >> (p & 7)) for p in self.positions(word))

    def add(self, word: str) -> bool:
        """Mark a word; whether it had been marked before."""
        data = self.data
        known = True
        for position in self.positions(word):
            bit = 0x80 >> (position & 7)
            if not data[position >> 3] & bit:
                known = False
                data[position >> 3] |= bit
        return known
