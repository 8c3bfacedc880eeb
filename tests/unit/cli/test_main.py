"""The dispatcher: commands, help, errors and exit codes."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from moxtw.cli import help as helptext
from moxtw.cli import main
from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.table import COMMANDS
from moxtw.version import VERSION
from tests.unit.cli.calls import call

ROOT = Path(__file__).resolve().parents[3]


class TableTests(SynchronousTestCase):
    def test_each_command_is_there_and_documented(self) -> None:
        for words, command in COMMANDS.items():
            module, function = command.run.split(":")
            self.assertTrue(
                callable(getattr(import_module(f"moxtw.cli.{module}"), function)), command.run
            )
            self.assertEqual(words, command.words)
            self.assertTrue(command.doc.endswith("."), command.name)
            self.assertTrue(command.summary[0].isupper(), command.name)
            names = [flag.name for flag in command.flags]
            self.assertEqual(len(names), len(set(names)), command.name)
            for flag in command.flags:
                self.assertTrue(flag.doc, command.name)
                self.assertNotIn(flag.name, ("h", "help", "config", "loglevel"))
            # Usage lines tell of arguments if there are any.
            takes = command.most != 0
            self.assertEqual(takes, bool(helptext_args(command.params)), command.name)

    def test_no_command_begins_with_another(self) -> None:
        for words in COMMANDS:
            for count in range(1, len(words)):
                self.assertNotIn(words[:count], COMMANDS)

    def test_functions_are_used(self) -> None:
        used = {command.run for command in COMMANDS.values()}
        for module in ("queue", "admin"):
            loaded = import_module(f"moxtw.cli.{module}")
            for name, value in vars(loaded).items():
                if (getattr(value, "__doc__", None) or "").startswith("``moxtw "):
                    self.assertIn(f"{module}:{name}", used)
                    command = next(c for c in COMMANDS.values() if c.run == f"{module}:{name}")
                    self.assertEqual(value.__doc__, f"``moxtw {command.name}``.")


def helptext_args(params: str) -> list[str]:
    """Words of a usage line that stand for arguments."""
    words = params.replace("[filter flags]", "").replace("[sort flags]", "")
    words = words.replace("[rule flags]", "").replace("[-now]", "")
    return [word for word in words.split() if word[0] not in "<>"]


class HelpTests(SynchronousTestCase):
    def test_of_every_command(self) -> None:
        for command in COMMANDS.values():
            texts = set()
            for args in (
                ["help", *command.words],
                [*command.words, "-h"],
                [*command.words, "-help"],
                [*command.words, "--help"],
                ["help", command.name],
            ):
                result = call(*args)
                self.assertEqual((result.code, result.err), (0, ""), args)
                texts.add(result.out)
            self.assertEqual(len(texts), 1)
            text = texts.pop()
            self.assertTrue(text.startswith(f"usage: moxtw {command.name}"))
            for flag in command.flags:
                self.assertIn(f"\n  -{flag.name}", text)
            for line in text.splitlines()[1:]:
                self.assertLess(len(line), 100)

    def test_wrong_calls(self) -> None:
        """Every command refuses flags that it does not have, and arguments beyond its own."""
        for command in COMMANDS.values():
            if command.dashes:
                continue  # sendmail, which takes what others call it with
            wrong = [["-nosuchflag"]]
            if command.most is not None:
                wrong.append(["x"] * (command.most + 1))
            if command.least:
                wrong.append(["x"] * (command.least - 1))
            for args in wrong:
                result = call(*command.words, *args)
                self.assertEqual((result.code, result.out), (2, ""), (command.name, args))
                self.assertIn(f"\nusage: moxtw {command.name}", result.err)

    def test_overview(self) -> None:
        for args in (["help"], ["-h"], ["--help"]):
            result = call(*args)
            self.assertEqual((result.code, result.err), (0, ""))
            for command in COMMANDS.values():
                self.assertIn(f"\n  moxtw {command.name} ", result.out)
            self.assertIn("\n  -config string\n", result.out)
        self.assertEqual(call().code, 2)
        self.assertEqual(call().err, call("help").out)

    def test_all(self) -> None:
        result = call("helpall")
        self.assertEqual(result.code, 0)
        self.assertEqual(result.out.count("\nusage: moxtw "), len(COMMANDS))

    def test_groups(self) -> None:
        for words in (["queue"], ["queue", "holdrules"], ["config"], ["config", "account"]):
            helped = call("help", *words)
            self.assertEqual(helped.code, 0)
            self.assertEqual(call(*words, "-h").out, helped.out)
            plain = call(*words)
            self.assertEqual((plain.code, plain.out, plain.err), (2, "", helped.out))
            name = " ".join(words)
            for command in COMMANDS.values():
                self.assertEqual(
                    f"  moxtw {command.name} " in helped.out, command.name.startswith(name + " ")
                )

    def test_paragraphs_are_filled_and_examples_kept(self) -> None:
        text = helptext._wrap("one\ntwo " + "word " * 30 + "\n\n  kept  as is\nlast")
        lines = text.splitlines()
        self.assertTrue(lines[0].startswith("one two word"))
        self.assertEqual(lines[-3:], ["", "  kept  as is", "last"])


class ErrorTests(SynchronousTestCase):
    def test_unknown_commands(self) -> None:
        result = call("queue", "lst")
        self.assertEqual(result.code, 2)
        self.assertIn("unknown command 'queue lst'", result.err)
        self.assertIn("  moxtw queue list\n", result.err)
        result = call("zzz")
        self.assertEqual((result.code, result.out), (2, ""))
        self.assertIn("moxtw help", result.err)
        self.assertEqual(call("help", "zzz").code, 2)
        self.assertEqual(call("help", "serve", "zzz").code, 2)

    def test_wrong_calls(self) -> None:
        cases = [
            (["-bla", "version"], "moxtw: unknown flag -bla\n"),
            (["version", "-bla"], "moxtw version: unknown flag -bla\n"),
            (["version", "a", "b"], "moxtw version: too many arguments: a b\n"),
            (["cid"], "moxtw cid: an argument is missing\n"),
            (
                ["config", "account", "add", "x"],
                "moxtw config account add: arguments are missing\n",
            ),
            (
                ["config", "alias", "add", "x"],
                "moxtw config alias add: arguments are missing\n",
            ),
            (["queue", "dump", "x"], "moxtw queue dump: 'x' is no id"),
            (["queue", "list", "-sort", "x"], "moxtw queue list: flag -sort: 'x' must be one of"),
            (["queue", "list", "-n", "-1"], "moxtw queue list: flag -n: must not be negative"),
            (["queue", "list", "-submitted", "1h"], "must begin with < or >"),
            (["queue", "requiretls", "maybe"], "'maybe' must be yes, no or default"),
            (["config", "alias", "update", "a@b"], "a flag is needed"),
            (["config", "account", "disable", "a", ""], "message must not be empty"),
            (["dns", "lookup", "x", "y"], "unknown type 'x'"),
            (["localserve", "-ip", "x"], "flag -ip: 'x' does not appear"),
            (["version", "-loglevel", "x"], "flag -loglevel: unknown log level 'x'"),
        ]
        for args, message in cases:
            result = call(*args)
            self.assertEqual((result.code, result.out), (2, ""), args)
            self.assertIn(message, result.err)
            if args[0] != "-bla":
                self.assertIn("\nusage: moxtw ", result.err)

    def test_errors_of_commands(self) -> None:
        result = call("-config", self.mktemp(), "config", "test")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn("No such file or directory", result.err)
        self.assertIn("-config file or MOXCONF", result.err)

    def test_an_error_comes_behind_what_was_written(self) -> None:
        def fail(invocation: Invocation) -> None:
            invocation.print("begun")
            raise CommandError("broken")

        self.patch(import_module("moxtw.cli.tools"), "version", fail)
        result = call("version")
        self.assertEqual((result.code, result.out, result.err), (1, "begun\n", "moxtw: broken\n"))

    def test_other_exceptions_are_not_hidden(self) -> None:
        def fail(invocation: Invocation) -> None:
            raise ZeroDivisionError

        self.patch(import_module("moxtw.cli.tools"), "version", fail)
        self.assertRaises(ZeroDivisionError, call, "version")

    def test_errors_of_the_system_are_told_in_words(self) -> None:
        cases = [
            (OSError(2, "Not there", "/x"), "/x: Not there"),
            (OSError(98, "listening on x: in use"), "listening on x: in use"),
            (OSError("odd"), "odd"),
            (OSError(), "OSError"),
        ]
        for raised, message in cases:

            def fail(invocation: Invocation, exc: Exception = raised) -> None:
                raise exc

            self.patch(import_module("moxtw.cli.tools"), "version", fail)
            self.assertEqual(call("version").err, f"moxtw: {message}\n")

    def test_exit_codes_of_commands(self) -> None:
        cases = ((UsageError("x"), 2), (OSError(2, "x"), 1), (KeyboardInterrupt(), 130))
        for raised, code in cases:

            def fail(invocation: Invocation, exc: BaseException = raised) -> None:
                raise exc

            self.patch(import_module("moxtw.cli.tools"), "version", fail)
            self.assertEqual(call("version").code, code)
        self.patch(import_module("moxtw.cli.tools"), "version", lambda invocation: 7)
        self.assertEqual(call("version").code, 7)


class GlobalFlagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.seen: list[Invocation] = []
        self.patch(import_module("moxtw.cli.tools"), "version", self.seen.append)

    def config(self, *args: str) -> str:
        self.assertEqual(call(*args).code, 0)
        return self.seen.pop().config_path

    def test_configuration_file(self) -> None:
        environ = main.os.environ
        self.patch(main.os, "environ", {k: v for k, v in environ.items() if k != "MOXCONF"})
        self.assertEqual(self.config("version"), "config/mox.conf")
        main.os.environ["MOXCONF"] = "/env/mox.conf"
        self.assertEqual(self.config("version"), "/env/mox.conf")
        self.assertEqual(self.config("-config", "a", "version"), "a")
        self.assertEqual(self.config("version", "-config=b"), "b")
        self.assertEqual(self.config("-config", "a", "version", "-config=b"), "b")

    def test_pedantic(self) -> None:
        call("-pedantic", "version")
        self.assertTrue(self.seen.pop().pedantic)
        call("version")
        self.assertFalse(self.seen.pop().pedantic)

    def test_profile(self) -> None:
        path = self.mktemp()
        self.assertEqual(call("-cpuprof", path, "version").code, 0)
        self.assertTrue(Path(path).stat().st_size)


class ProcessTests(SynchronousTestCase):
    def run_python(self, code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def test_version_and_help_are_quick(self) -> None:
        """They import nothing of weight."""
        output = self.run_python(
            "import sys\n"
            "from moxtw.cli.main import main\n"
            "main(['version']); main(['help']); main(['queue', 'list', '-h'])\n"
            "heavy = {'twisted', 'zope', 'cryptography', 'sqlalchemy', 'msgspec', 'dns', 'ssl',\n"
            "         'asyncio', 'moxtw.log', 'moxtw.config', 'inspect'}\n"
            "print(sorted(heavy & set(sys.modules)))\n"
        )
        self.assertTrue(output.startswith(f"moxtw {VERSION} "))
        self.assertEqual(output.splitlines()[-1], "[]")

    def test_a_reader_that_had_enough(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "moxtw.cli.main", "helpall"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(60), error), (1, b""))


class OutputTests(SynchronousTestCase):
    def test_main_returns_the_code(self) -> None:
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.assertEqual(main.main(["version"]), 0)
        self.assertTrue(out.getvalue().startswith("moxtw "))
