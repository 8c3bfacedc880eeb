"""Flags in the way of Go programs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.cli.command import BOOL, BOOL_VALUE, IDS, INT, TEXT, Flag, UsageError
from moxtw.cli.flags import HelpWanted, parse

FLAGS = (
    Flag("name", TEXT, ""),
    Flag("n", INT, ""),
    Flag("asc", BOOL, ""),
    Flag("hold", BOOL_VALUE, ""),
    Flag("ids", IDS, ""),
    Flag("sort", "up|down", ""),
)
UNSET = {"name": None, "n": None, "asc": False, "hold": None, "ids": None, "sort": None}


class FlagTests(SynchronousTestCase):
    def test_values(self) -> None:
        cases = [
            ([], {}, []),
            (["a", "b"], {}, ["a", "b"]),
            (["-name", "x"], {"name": "x"}, []),
            (["-name=x"], {"name": "x"}, []),
            (["--name", "x"], {"name": "x"}, []),
            (["--name=x=y"], {"name": "x=y"}, []),
            (["-name="], {"name": ""}, []),
            (["-name", ""], {"name": ""}, []),
            (["-name", "-n"], {"name": "-n"}, []),
            (["-name", "x", "-name", "y"], {"name": "y"}, []),
            (["-n", "5"], {"n": 5}, []),
            (["-n", "-5"], {"n": -5}, []),
            (["-asc", "x"], {"asc": True}, ["x"]),
            (["-asc=true"], {"asc": True}, []),
            (["-asc=false"], {"asc": False}, []),
            (["-asc=0"], {"asc": False}, []),
            (["-hold", "true"], {"hold": True}, []),
            (["-hold=false"], {"hold": False}, []),
            (["-ids", "1,2, 3"], {"ids": (1, 2, 3)}, []),
            (["-sort", "up"], {"sort": "up"}, []),
            # Behind arguments too, as in "config alias update alias -postpublic true".
            (["a", "-n", "1", "b"], {"n": 1}, ["a", "b"]),
            # What is no flag: durations, a single dash, and what is behind two.
            (["-1h30m"], {}, ["-1h30m"]),
            (["-.5h"], {}, ["-.5h"]),
            (["-"], {}, ["-"]),
            (["--", "-n", "--"], {}, ["-n", "--"]),
            (["a", "-x", "-y=1"], {}, ["a", "-x", "-y=1"]),
        ]
        for args, values, rest in cases:
            parsed = parse(args, FLAGS)
            self.assertEqual((parsed.values, parsed.args), ({**UNSET, **values}, rest), args)

    def test_mistakes(self) -> None:
        cases = [
            (["-x"], "unknown flag -x"),
            (["--x=1", "a"], "unknown flag -x"),
            (["-name"], "flag -name needs a value"),
            (["-n", "a"], "flag -n: 'a' must be a whole number"),
            (["-n", "1.5"], "flag -n: '1.5' must be a whole number"),
            (["-n", "\u0661"], "flag -n: '\u0661' must be a whole number"),
            (["-n", "9" * 30], f"flag -n: '{'9' * 30}' must be a whole number"),
            (["-asc=maybe"], "flag -asc: 'maybe' must be true or false"),
            (["-hold", "x"], "flag -hold: 'x' must be true or false"),
            (["-ids", "1,,2"], "flag -ids: '1,,2' must be a whole number"),
            (["-sort", "left"], "flag -sort: 'left' must be one of up, down"),
        ]
        for args, message in cases:
            exc = self.assertRaises(UsageError, parse, args, FLAGS)
            self.assertEqual(str(exc), message)

    def test_help(self) -> None:
        for args in (["-h"], ["-help"], ["--help"], ["-n", "1", "-h"], ["a", "-help"]):
            self.assertRaises(HelpWanted, parse, args, FLAGS)
        self.assertEqual(parse(["--", "-h"], FLAGS).args, ["-h"])
        self.assertEqual(parse(["-name", "-h"], FLAGS).values["name"], "-h")

    def test_arguments_that_begin_with_a_dash(self) -> None:
        parsed = parse(["-x_y", "-n", "1", "-z"], FLAGS, lenient=True)
        self.assertEqual((parsed.values["n"], parsed.args), (1, ["-x_y", "-z"]))
        self.assertRaises(HelpWanted, parse, ["-h"], FLAGS, lenient=True)

    def test_flags_before_a_command(self) -> None:
        parsed = parse(["-n", "1", "list", "-n", "2", "-x"], FLAGS, until_argument=True)
        self.assertEqual(parsed.values["n"], 1)
        self.assertEqual(parsed.args, ["list", "-n", "2", "-x"])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(max_size=8) | st.sampled_from(["-n", "-asc", "--", "-ids=1"])))
    def test_any_arguments(self, args: list[str]) -> None:
        try:
            parsed = parse(args, FLAGS)
        except (UsageError, HelpWanted):
            return
        self.assertLessEqual(len(parsed.args), len(args))
