"""What documents say of the code."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from moxtw.cli.main import find

ROOT = Path(__file__).resolve().parent.parent.parent
ROW = re.compile(
    r"^\| \[(\d+)\]\(https://www\.rfc-editor\.org/rfc/rfc(\d+)\) \| (.+?) \| (\w+) \| (.*?) \|"
)


class RFCTests(SynchronousTestCase):
    """docs/rfcs.md."""

    def setUp(self) -> None:
        path = ROOT / "docs" / "rfcs.md"
        if not path.exists():
            raise SkipTest("not run from a checkout")
        lines = path.read_text().splitlines()
        rows = [line for line in lines if line.startswith("| [")]
        matches = [ROW.match(row) for row in rows]
        self.assertNotIn(None, matches, rows[matches.index(None)] if None in matches else "")
        self.rows = [match.groups() for match in matches if match]

    def test_each_stands_there_once_with_a_status(self) -> None:
        numbers = [number for number, *_ in self.rows]
        self.assertEqual(sorted(set(numbers)), sorted(numbers))
        for number, link, _title, status, where in self.rows:
            self.assertEqual(number, link)
            self.assertIn(status, ("yes", "partly", "no"))
            self.assertTrue(where or status == "no", number)

    def test_places_exist(self) -> None:
        for number, _link, _title, _status, where in self.rows:
            for place in re.findall(r"`([^`]+)`", where):
                self.assertTrue((ROOT / "moxtw" / place).is_file(), f"RFC {number}: {place}")

    def test_all_that_the_code_names_stand_there(self) -> None:
        named: dict[str, str] = {}
        for path in (ROOT / "moxtw").rglob("*.py"):
            for number in re.findall(r"\bRFC ?(\d{3,5})\b", path.read_text()):
                named[number] = str(path.relative_to(ROOT))
        known = {number for number, *_ in self.rows}
        missing = {number: path for number, path in named.items() if number not in known}
        self.assertEqual(missing, {})


class ReadmeTests(SynchronousTestCase):
    """README.md."""

    def blocks(self) -> list[str]:
        """What is indented, without the indent."""
        text = (ROOT / "README.md").read_text()
        found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
        return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]

    def test_links_lead_somewhere(self) -> None:
        for name in ("README.md", "ARCHITECTURE.md"):
            for target in re.findall(r"\]\(([^):#]+)\)", (ROOT / name).read_text()):
                self.assertTrue((ROOT / target).exists(), f"{name}: {target}")

    def test_its_commands_exist(self) -> None:
        self.assertTrue(self.blocks())
        for words in re.findall(r"(?m)(?:^|bin/)moxtw ((?:[a-z]+ ?)+)", "\n".join(self.blocks())):
            names = words.split()
            if not find(names)[0]:
                self.fail(f"no command: moxtw {words}")
