"""Configuration files, and what else is written by people."""

from __future__ import annotations

import contextlib
from pathlib import Path

from moxtw.config import document
from moxtw.config.describe import describe_dynamic, describe_static
from moxtw.config.duration import DurationError, parse_duration
from moxtw.config.load import ConfigError
from moxtw.config.regexp import compile_regexp
from moxtw.config.sconf import SconfError, format_tree, parse_tree
from moxtw.config.testing import DYNAMIC, STATIC, dynamic_from, static_from
from tests.fuzz.engine import FuzzCase

DATA = Path(__file__).parent.parent / "unit" / "config" / "data"
TOKENS = [
    b"\t", b"\n\t", b"\n", b": ", b"- ", b"-\n", b"nil", b"#", b"true", b"-1", b"1h", b"@", b"((((",
    b"a" * 300, b"[::1", b"xn--", b"..", b"*", b"^", b"$1", b"example.org", b"me@example.org",
]  # fmt: skip


class FileTests(FuzzCase):
    def test_text_without_errors_comes_out_as_it_went_in(self) -> None:
        def check(data: bytes) -> None:
            text = data.decode("utf-8", "replace")
            errors: list[SconfError] = []
            tree = parse_tree(text, errors)
            if not errors and "\r" not in text:
                self.assertEqual(format_tree(tree).rstrip("\n"), text.rstrip("\n"))

        self.fuzz(check, [describe_dynamic().encode(), STATIC.encode(), DYNAMIC.encode()], TOKENS)

    def test_mox_conf_is_used_or_refused(self) -> None:
        def check(data: bytes) -> None:
            with contextlib.suppress(ConfigError):
                static_from(data.decode("utf-8", "replace"))

        self.fuzz(check, [STATIC.encode(), describe_static().encode()], TOKENS)

    def test_what_passes_the_checks_is_written_as_it_was_read(self) -> None:
        static = static_from(STATIC.replace("Account: me", "Account: you"))
        quickstart = (DATA / "quickstart" / "domains.conf").read_bytes()

        def check(data: bytes) -> None:
            try:
                dynamic = dynamic_from(data.decode("utf-8", "replace"), static)
            except ConfigError:
                return
            self.assertEqual(dynamic_from(document.write(dynamic), static), dynamic)

        self.fuzz(check, [quickstart, describe_dynamic().encode(), DYNAMIC.encode()], TOKENS)


class ValueTests(FuzzCase):
    def test_durations(self) -> None:
        def check(data: bytes) -> None:
            with contextlib.suppress(DurationError):
                value = parse_duration(data.decode("utf-8", "replace"))
                self.assertEqual(parse_duration(str(value)), value)

        self.fuzz(check, [b"1h30m0.5s", b"-5ms", b"72h", b"1us2ns"], [b"h", b"m", b".", b"-", b"9"])

    def test_regular_expressions_end_soon(self) -> None:
        text = "a" * 500 + "b@example.org " * 20

        def check(data: bytes) -> None:
            with contextlib.suppress(ValueError):
                compile_regexp(data.decode("utf-8", "replace")).search(text)

        examples = [b"^(a|b)*$", b"[^a-z\\d]+?", b"(?i)x{2,5}", b"(a*)*b", b"\\bx\\b", b"(?P<n>.)"]
        self.fuzz(check, examples, [b"(", b")", b"*", b"+", b"?", b"{9}", b"|", b"[", b"]", b"\\"])
