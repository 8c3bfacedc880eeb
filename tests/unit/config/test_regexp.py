import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.regexp import RegexpError, compile_regexp, replacement_template
from moxtw.config.regexp_syntax import parse, to_python

# What RE2 and Python's re agree about, without newlines at the end ($ differs there).
atoms = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "^", "$", r"\b", r"\B", "é", "x1", r"\."]
)
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: f"({'|'.join(p)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,2}", "{2}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=8,
)
subjects = st.text(st.sampled_from("abxé1 ._\nÉ"), max_size=12).map(lambda t: t + "b")


class RegexpTests(SynchronousTestCase):
    def check(self, pattern, yes, no):
        regexp = compile_regexp(pattern)
        python = re.compile(to_python(parse(pattern)))
        for text in yes:
            self.assertTrue(regexp.search(text), (pattern, text))
            self.assertIsNotNone(python.search(text), (pattern, text))
        for text in no:
            self.assertFalse(regexp.search(text), (pattern, text))
            self.assertIsNone(python.search(text), (pattern, text))

    def test_syntax(self):
        for pattern, yes, no in [
            ("", ["", "a"], []),
            ("abc", ["abc", "xabcx"], ["ab", "ABC"]),
            ("^(junk|spam)", ["junk", "spam/x", "junkyard"], ["xjunk", ""]),
            ("^$", [""], ["a", "\n"]),
            ("a$", ["a", "ba"], ["ab", "a\n"]),
            (r"\Aa\z", ["a"], ["ab", "a\n"]),
            ("(?m)^b$", ["b", "a\nb", "a\nb\nc"], ["ab"]),
            ("a.c", ["abc", "aéc"], ["a\nc", "ac"]),
            ("(?s)a.c", ["a\nc"], ["ac"]),
            ("(?i)straße", ["STRAßE", "straẞe"], ["strase"]),
            ("(?i)kiss", ["KISS", "\u212ai\u017fs"], []),
            ("(?i)[^k]", ["a"], ["k", "K", "\u212a", ""]),
            ("(?i:a)b", ["Ab", "ab"], ["aB"]),
            ("a(?i)b|c", ["aB", "C"], ["AB"]),
            ("(?i)a(?-i)b", ["Ab"], ["AB"]),
            ("[a-c]x", ["bx"], ["dx"]),
            ("[]a]", ["]", "a"], ["b"]),
            ("[^]a]", ["b"], ["]", "a"]),
            ("[a-]", ["-", "a"], ["b"]),
            (r"[\]\d]", ["]", "5"], ["a"]),
            (r"[\x41-\x43]", ["B"], ["D"]),
            ("[[:alpha:]-]", ["x", "-"], ["1"]),
            ("[[:^digit:]]", ["x"], ["1"]),
            (r"\d\D\w\W\s\S", ["1xa- x"], ["xxa- x"]),
            (r"\bme\b", ["me", "to me!"], ["meme", "xme"]),
            (r"a\Bb", ["ab"], ["a b"]),
            (r"\pL+\p{Nd}", ["é1"], ["1é"]),
            (r"\p{Greek}", ["α"], ["a"]),
            (r"\PL", ["1"], ["a"]),
            (r"\p{^Lu}", ["a"], ["A"]),
            (r"\x{e9}\101\t", ["éA\t"], ["e"]),
            (r"\Qa.b*\E+", ["a.b**"], ["aab"]),
            (r"\.\*\@\/", [".*@/"], ["a"]),
            ("a{2}", ["aa"], ["a"]),
            ("^a{2,}$", ["aa", "aaaa"], ["a"]),
            ("^a{1,3}$", ["a", "aaa"], ["", "aaaa"]),
            ("a{,3}", ["a{,3}"], ["aaa"]),
            ("a{x", ["a{x"], ["a"]),
            ("^(a|b)*c$", ["c", "abc"], ["d"]),
            ("(?P<n>a)(?<m>b)", ["ab"], ["a"]),
            ("(|a)b", ["b", "ab"], ["a"]),
            ("^(a*)*b$", ["aab", "b"], ["a"]),
            ("()*x", ["x"], ["y"]),
            ("(?U)a+?", ["a"], ["b"]),
        ]:
            self.check(pattern, yes, no)

    def test_errors(self):
        for pattern in [
            "(",
            ")",
            "(a",
            "a)",
            "[a",
            "[z-a]",
            "*",
            "+a",
            "a**",
            "a|*",
            "(?x)",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            r"\1",
            r"\9",
            r"\8",
            r"\c",
            r"\Z",
            "\\",
            r"\p{Nope}",
            r"\p{L",
            "[[:nope:]]",
            "a{3,2}",
            "a{1001}",
            r"\x{110000}",
            r"\xZ",
            "(?P<n>a)(?P<n>b)",
            "(?P<1>a)",
            "((a{100}){100})",
            "(" * 200 + ")" * 200,
            "a" * 3000,
            "(?i",
        ]:
            with self.assertRaises(RegexpError, msg=pattern) as raised:
                compile_regexp(pattern)
            self.assertIn("bad regular expression", str(raised.exception))

    @settings(max_examples=200, deadline=None)
    @given(patterns, subjects)
    def test_agrees_with_re(self, pattern, text):
        expected = re.search(pattern, text, re.ASCII)
        regexp = compile_regexp(pattern)
        self.assertEqual(regexp.search(text), expected is not None)
        match = regexp.match(text)
        self.assertEqual(match and match.span(), expected and expected.span())

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.sampled_from("ab[](){}*+?|^$\\.,:-1iP<>pdQE"), max_size=20), st.text())
    def test_hostile_patterns(self, pattern, text):
        try:
            regexp = compile_regexp(pattern)
        except RegexpError:
            return
        regexp.match(text)

    def test_time_is_linear(self):
        for pattern in [
            r"^(a+)+$",
            r"(a*)*b",
            r"(a|a)*c",
            r"([a-z]+\.)+[a-z]+@x$",
            r"(a|b)*a(a|b){300}c",
        ]:
            text = "a" * 3000 + "!"
            regexp = compile_regexp(pattern)
            start = time.process_time()
            regexp.search(text)
            regexp.match(text)
            self.assertLess(time.process_time() - start, 2, pattern)

    def test_replacements(self):
        regexp = compile_regexp("^/old/(.*?)-(?P<rest>.*)$")
        for template, expected in [
            ("/new/$1", "/new/a"),
            ("/$2/${1}x", "/b-c/ax"),
            ("/${rest}$$1", "/b-c$1"),
            ("/$9$nope$1x", "/"),
            (r"/\1", r"/\1"),
            ("$", "$"),
        ]:
            match = regexp.match("/old/a-b-c")
            self.assertEqual(match.expand(replacement_template(template, regexp)), expected)
