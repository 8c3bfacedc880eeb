"""The commands of the junk filter, on directories of messages; its Bloom filter."""

from __future__ import annotations

import random
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.junk.bloom import BITS, Bloom
from tests.unit.cli.calls import Result, call

SHARED = [f"{a}{b}common" for a in "bdfgk" for b in "aeiou"]
OWN = {"ham": ["meeting", "agenda", "minutes", "budget"], "spam": ["casino", "jackpot", "pills"]}


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.chance = random.Random(1)
        for kind in ("ham", "spam"):
            self.make(kind, kind, 40)

    def make(self, directory: str, kind: str, count: int, date: str = "Mon, 3 Nov 2025") -> None:
        folder = self.directory / directory
        folder.mkdir(parents=True)
        for number in range(count):
            words = self.chance.sample(SHARED, 12) + self.chance.sample(OWN[kind], 3)
            self.chance.shuffle(words)
            (folder / f"{number:03}").write_bytes(
                f"Date: {date} 10:{number % 60:02}:00 +0000\r\n\r\n{' '.join(words)}\r\n".encode()
            )

    def junk(self, command: str, *words: Any) -> Result:
        """A command with single words, files in the directory, and good settings."""
        files = ("-dbpath", self.directory / "f.db", "-bloompath", self.directory / "f.bloom")
        return call(
            "junk", command, "-one-grams", "-two-grams=false", "-max-power", "0.01", *files, *words
        )

    def folders(self, *names: str) -> list[Path]:
        return [self.directory / name for name in names]

    def test_train_check_test(self) -> None:
        result = self.junk("train", *self.folders("ham", "spam"))
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn("ham 40, sent 0, spam 40; in the filter now: ham 40, spam 40", result.out)
        for kind, low, high in (("ham", 0.0, 0.1), ("spam", 0.9, 1.0)):
            result = self.junk("check", self.directory / kind / "007")
            self.assertEqual((result.code, result.err), (0, ""))
            self.assertTrue(low <= float(result.out) <= high, result.out)
        result = self.junk("test", *self.folders("ham", "spam"))
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual(
            result.out.splitlines(),
            [
                "total ham, ok 40, bad 0",
                "total spam, ok 40, bad 0",
                "specificity (true negatives, hams identified): 1.000000",
                "sensitivity (true positives, spams identified): 1.000000",
                "accuracy: 1.000000",
            ],
        )
        # Judged the other way round, all are named.
        result = self.junk("test", *self.folders("spam", "ham"))
        self.assertIn("total ham, ok 0, bad 40", result.out)
        self.assertEqual(len(re.findall(r'^(ham|spam) "/', result.out, re.M)), 80)

    def test_debug_names_words(self) -> None:
        self.junk("train", *self.folders("ham", "spam"))
        result = self.junk("check", "-debug", self.directory / "spam" / "007")
        self.assertRegex(result.err, r"(?m)^spam 0\.\d{4} (casino|jackpot|pills)$")
        self.assertRegex(result.err, r"(?m)^words \d+, known \d+$")

    def test_train_adds(self) -> None:
        """With more messages in the same files; sent ones count as ham."""
        self.make("sent", "ham", 10)
        for ham in (50, 100):
            result = self.junk(
                "train", "-sent-dir", self.directory / "sent", *self.folders("ham", "spam")
            )
            self.assertIn(f"in the filter now: ham {ham},", result.out)

    def test_analyze(self) -> None:
        result = self.junk("analyze", "-train-ratio", "0.75", *self.folders("ham", "spam"))
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn("training done, ham 30, sent 0, spam 30\n", result.out)
        self.assertIn("total ham, ok 10, bad 0\n", result.out)
        self.assertIn("total spam, ok 10, bad 0\n", result.out)

    def test_play(self) -> None:
        """By date: what comes first meets a filter that knows nothing."""
        (self.directory / "spam" / "undated").write_bytes(b"Subject: x\r\n\r\nno date\r\n")
        result = self.junk("play", *self.folders("ham", "spam"))
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn(
            "completed, ham 40, sent 0, spam 40, unreadable 0, without date 1\n", result.out
        )
        found = re.search(r"total spam, ok (\d+), bad (\d+)", result.out)
        assert found is not None
        right, wrong = int(found[1]), int(found[2])
        self.assertEqual(right + wrong, 40)
        self.assertTrue(0 < wrong < 20, result.out)

    def test_errors(self) -> None:
        """One line, and what is wrong."""
        for words, text in (
            (("check", self.directory / "ham" / "001"), "train one first"),
            (("train", *self.folders("ham", "none")), "none: No such file"),
            (("train", "-max-power", "0.6", *self.folders("ham", "spam")), "-max-power"),
            (("train", "-top-words", "-1", *self.folders("ham", "spam")), "-top-words"),
            (("analyze", "-train-ratio", "2", *self.folders("ham", "spam")), "-train-ratio"),
        ):
            with self.subTest(text):
                result = self.junk(*words)  # type: ignore[arg-type]
                self.assertNotEqual(result.code, 0)
                self.assertIn(text, result.err)
                self.assertNotIn("Traceback", result.err)

    def test_damaged_files(self) -> None:
        (self.directory / "f.db").write_bytes(b"nonsense" * 1000)
        result = self.junk("check", self.directory / "ham" / "001")
        self.assertEqual(result.code, 1)
        self.assertIn("f.db", result.err)
        (self.directory / "f.db").unlink()
        (self.directory / "f.bloom").write_bytes(b"short")
        result = self.junk("train", *self.folders("ham", "spam"))
        self.assertEqual(result.code, 1)
        self.assertIn("bloom", result.err)


class BloomTests(SynchronousTestCase):
    def test_positions(self) -> None:
        """25 bits each of BLAKE2b-256, from the high end."""
        digest = blake2b(b"word", digest_size=32).digest()
        bits = "".join(f"{byte:08b}" for byte in digest)
        expected = [int(bits[25 * n : 25 * n + 25], 2) for n in range(10)]
        self.assertEqual(Bloom().positions("word"), expected)

    def test_first_bit_is_the_highest_of_a_byte(self) -> None:
        bloom = Bloom()
        bloom.add("word")
        for position in bloom.positions("word"):
            self.assertTrue(bloom.data[position // 8] & (128 >> position % 8))
        self.assertEqual(len(bloom.data) * 8, BITS)

    @given(st.sets(st.text(max_size=10), max_size=30))
    @settings(max_examples=20, deadline=None)
    def test_what_was_added_is_known(self, words: set[str]) -> None:
        bloom = Bloom()
        for word in words:
            self.assertFalse(bloom.add(word))
            self.assertTrue(bloom.add(word))
        self.assertTrue(all(word in bloom for word in words))
        self.assertNotIn("never added", bloom)
