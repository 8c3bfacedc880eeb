import contextlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import document, json_value
from moxtw.config.describe import describe_dynamic, describe_static
from moxtw.config.load import ConfigError
from moxtw.config.testing import STATIC, dynamic_from, static_from

DATA = Path(__file__).parent / "data"
DYNAMIC_LINES = describe_dynamic().splitlines()
STATIC_LINES = describe_static().splitlines()
VALUES = [
    "",
    "nil",
    "-",
    "@",
    ".",
    "a b",
    "\ud7ff",
    "0",
    "-1",
    "99999999999999999999",
    "1e9",
    "((((",
    "a" * 300,
    "::",
    "[::1",
    "x@y",
    '"',
    "\\",
    "*.x",
    "xn--",
    "..",
    "true",
    "1h",
]


def mutated(lines):
    """Files with lines removed, repeated, moved in or out, or with other values."""

    def apply(edits):
        result = list(lines)
        for place, kind, value in edits:
            index = place % max(1, len(result))
            if not result:
                break
            line = result[index]
            if kind == "remove":
                del result[index]
            elif kind == "repeat":
                result.insert(index, line)
            elif kind == "in":
                result[index] = "\t" + line
            elif kind == "out":
                result[index] = line.removeprefix("\t")
            else:
                head, colon, _ = line.partition(": ")
                result[index] = head + (colon or ": ") + value
        return "\n".join(result) + "\n"

    edit = st.tuples(
        st.integers(0, 2000),
        st.sampled_from(["remove", "repeat", "in", "out", "value", "value", "value"]),
        st.sampled_from(VALUES),
    )
    return st.lists(edit, min_size=1, max_size=12).map(apply)


class HostileTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(mutated(DYNAMIC_LINES))
    def test_broken_domains_conf(self, text):
        with contextlib.suppress(ConfigError):
            json_value(dynamic_from(text, static_from()))

    @settings(max_examples=60, deadline=None)
    @given(mutated(STATIC_LINES))
    def test_broken_mox_conf(self, text):
        with contextlib.suppress(ConfigError):
            static_from(text)

    @settings(max_examples=60, deadline=None)
    @given(mutated((DATA / "quickstart" / "domains.conf").read_text().splitlines()))
    def test_what_passes_the_checks_is_written_as_it_was_read(self, text):
        static = static_from(STATIC.replace("Account: me", "Account: you"))
        try:
            dynamic = dynamic_from(text, static)
        except ConfigError:
            return
        again = dynamic_from(document.write(dynamic), static)
        self.assertEqual(again, dynamic)
