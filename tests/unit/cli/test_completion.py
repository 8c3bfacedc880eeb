"""Completion, tried in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from moxtw.cli.table import COMMANDS
from tests.unit.cli.calls import call

# What completes the last of the words that the script is given.
_CALLS = {
    "bash": """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _moxtw
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # Zsh itself picks from the words those that begin as what is there does.
    "zsh": """
        compdef() { : }
        compadd() { shift; for each in "$@"; do [[ $each == "${words[CURRENT]}"* ]] && print -r -- $each; done }
        _files() { for each in "${words[CURRENT]}"*(N); do print -r -- $each; done }
        source "$1"; shift
        words=("$@"); CURRENT=$#
        _moxtw
        true
    """,  # noqa: E501
}


class CompletionTests(SynchronousTestCase):
    def completed(self, shell: str, *words: str) -> set[str]:
        """What a shell offers for the last word."""
        program = shutil.which(shell)
        if program is None:
            raise SkipTest(f"{shell} is not installed")
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "script").write_text(call("completion", shell).out)
        (folder / "mox.conf").touch()
        done = subprocess.run(
            [program, "-c", _CALLS[shell], shell, "./script", "moxtw", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def check(self, shell: str) -> None:
        def offered(*words: str) -> set[str]:
            return self.completed(shell, *words)

        self.assertEqual(offered(""), {command.words[0] for command in COMMANDS.values()})
        self.assertEqual(offered("que"), {"queue"})
        self.assertLessEqual({"list", "holdrules", "suppress"}, offered("queue", ""))
        self.assertEqual(offered("queue", "holdrules", "a"), {"add"})
        self.assertEqual(offered("queue", "list", "-so"), {"-sort"})
        self.assertIn("-json", offered("queue", "list", "-n", "3", "-"))
        self.assertIn("-help", offered("stop", "-"))
        self.assertEqual(offered("queue", "list", "-sort", "q"), {"queued"})
        self.assertEqual(offered("-config", "queue", "que"), {"queue"})
        # Behind what completes by no words: files.
        self.assertEqual(offered("-config", "mo"), {"mox.conf"})
        self.assertEqual(offered("verifydata", "mox"), {"mox.conf"})
        self.assertEqual(offered("config", "dnscheck", "nothing"), set())

    def test_bash(self) -> None:
        self.check("bash")

    def test_zsh(self) -> None:
        self.check("zsh")

    def test_other_shells(self) -> None:
        result = call("completion", "fish")
        self.assertEqual((result.code, result.out), (2, ""))
        self.assertIn("must be bash or zsh", result.err)


class LicenseTests(SynchronousTestCase):
    def test_licenses(self) -> None:
        result = call("licenses")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertTrue(result.out.startswith("moxtw "))
        for name in ("Twisted", "klein", "dnspython", "SQLAlchemy", "cryptography", "attrs"):
            self.assertRegex(result.out, rf"(?im)^{name} \d")
        for name in ("mypy", "ruff", "hypothesis", "sphinx"):
            self.assertFalse(f"\n{name} " in result.out, name)
        self.assertIn("MIT", result.out)
        self.assertGreater(result.out.count("\n-- "), 10)
