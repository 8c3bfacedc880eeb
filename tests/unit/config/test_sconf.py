import dataclasses
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import document
from moxtw.config.codec import opt, req, section
from moxtw.config.duration import Duration, DurationError, parse_duration
from moxtw.config.sconf import SconfError, format_tree, parse_tree, split_key


@section
class Inner:
    name: str = req("Name", "A name.")
    note: str = opt("Note", "A note.")


@section
class Loose:
    on: bool = opt("On", "A switch.", False)


@section
class Sample:
    text: str = req("Text", "Text.")
    flag: bool = opt("Flag", "Switch.", False)
    number: int = opt("Number", "Number.", 0)
    ratio: float = opt("Ratio", "Ratio.", 0.0)
    period: Duration = opt("Period", "Period.", Duration(0))
    maybe: bool | None = opt("Maybe", "Switch that may be absent.", None)
    words: tuple[str, ...] = opt("Words", "List.", ())
    table: Mapping[str, str] = opt("Table", "Map.", dict)
    inner: Inner = opt("Inner", "Section.", Inner)
    pointer: Inner | None = opt("Pointer", "Section that may be absent.", None)
    loose: Loose | None = opt("Loose", "Section without required fields.", None)
    items: tuple[Inner, ...] = opt("Items", "List of sections.", ())
    named: Mapping[str, Inner] = opt("Named", "Map of sections.", dict)
    lasting: Mapping[str, Loose] = req("Lasting", "Required map.", dict)


def read(text, cls=Sample):
    errors = []
    doc = document.read(text, cls, errors)
    return doc, [str(error) for error in errors]


def good(test, text, cls=Sample):
    doc, errors = read(text, cls)
    test.assertEqual(errors, [])
    return doc


def lines(text):
    return "\n".join(text) + "\n"


class ReadTests(SynchronousTestCase):
    def test_all_kinds_of_values(self):
        doc = good(
            self,
            lines(
                [
                    "# about the file",
                    "",
                    "Text: some: text # no comment ",
                    "Flag: true",
                    "Number: -12",
                    "Ratio: 0.950000",
                    "Period: 72h0m0s",
                    "Maybe: false",
                    "Words:",
                    "\t- one",
                    "\t# between",
                    "\t- - two",
                    "\t- ",
                    "Table:",
                    "\t@example.org: x",
                    "\t^list-id$: <a:b>",
                    "Inner:",
                    "\tName: in",
                    "Pointer:",
                    "\tName: ",
                    "Items:",
                    "\t-",
                    "\t\tName: first",
                    "\t- nil",
                    "Named:",
                    "\tyou@example.org: nil",
                    "\ta b:",
                    "\t\tName: n",
                    "Lasting: nil",
                ]
            ),
        )
        self.assertEqual(
            doc.value,
            Sample(
                text="some: text # no comment ",
                flag=True,
                number=-12,
                ratio=0.95,
                period=Duration.of(hours=72),
                maybe=False,
                words=("one", "- two", ""),
                table={"@example.org": "x", "^list-id$": "<a:b>"},
                inner=Inner(name="in"),
                pointer=Inner(name=""),
                items=(Inner(name="first"), Inner()),
                named={"you@example.org": Inner(), "a b": Inner(name="n")},
            ),
        )

    def test_empty_sections(self):
        doc = good(self, "Text:\nTable: nil\nPointer: nil\nLoose: nil\nLasting:\n")
        self.assertEqual(doc.value, Sample(text="", loose=Loose()))

    def test_carriage_returns_and_byte_order_mark_are_tolerated(self):
        doc = good(self, "\ufeffText: x\r\nWords:\r\n\t- y\r\nLasting: nil\r\n")
        self.assertEqual(doc.value, Sample(text="x", words=("y",)))

    def test_errors(self):
        for text, expected in [
            ("", ["missing required field Text", "missing required field Lasting"]),
            ("Text: x\nLasting: nil\nBogus: 1\n", ["3: unknown field 'Bogus'"]),
            (
                "Text: x\nLasting: nil\nWord: 1\n",
                ["3: unknown field 'Word', did you mean Words?"],
            ),
            ("Text: x\nText: y\nLasting: nil\n", ["2: duplicate field Text"]),
            (
                "Text: x\nLasting:\n\ta: nil\n\ta: nil\n",
                ["4: duplicate key 'a'"],
            ),
            (
                "Text: x\n    Flag: true\nLasting: nil\n",
                ["2: indentation must consist of tabs, not spaces"],
            ),
            ("Text: x\n\t\tFlag: true\nLasting: nil\n", ["2: indented 1 tabs too deep"]),
            (
                "Text: x\n\tFlag: true\nLasting: nil\n",
                ["2: unexpected indented line below a plain value"],
            ),
            ("Text\nLasting: nil\n", ["missing required field Text", "1: need a field name"]),
            ("Text: x\nFlag: yes\nLasting: nil\n", ["2: bad value 'yes', need true or false"]),
            ("Text: x\nNumber: 1.5\nLasting: nil\n", ["2: bad value '1.5'"]),
            ("Text: x\nNumber: 9223372036854775808\nLasting: nil\n", ["2: bad value '9223"]),
            ("Text: x\nRatio: nan\nLasting: nil\n", ["2: bad value 'nan', need a number"]),
            ("Text: x\nRatio: 1e999\nLasting: nil\n", ["2: bad value '1e999', need a number"]),
            ("Text: x\nPeriod: 5\nLasting: nil\n", ["2: bad duration '5'"]),
            ("Text: x\nWords: a\nLasting: nil\n", ["2: unexpected value 'a', need a list"]),
            ("Text: x\nWords:\n\ta: b\nLasting: nil\n", ["3: need a list item"]),
            ("Text: x\nTable:\n\tab\nLasting: nil\n", ["3: need a key"]),
            ("Text: x\nInner: y\nLasting: nil\n", ["2: unexpected value 'y', need fields"]),
            ("Text: x\nInner:\nLasting: nil\n", ["2: missing required field Name"]),
            (
                "Text: x\nInner: nil\n\tName: y\nLasting: nil\n",
                ["3: unexpected indented line below nil"],
            ),
            ("Text: x\0y\nLasting: nil\n", ["missing required field Text", "1: NUL character"]),
        ]:
            _, errors = read(text)
            self.assertEqual(len(errors), len(expected), (text, errors))
            for error, start in zip(errors, expected, strict=True):
                self.assertTrue(error.startswith(start), (text, error, start))

    def test_many_errors_are_found_at_once(self):
        _, errors = read("Text: x\nFlag: 1\nNumber: a\nBogus: 1\nLasting: 3\n")
        self.assertEqual([error[:2] for error in errors], ["2:", "3:", "4:", "5:"])

    def test_deep_nesting_is_refused_not_followed(self):
        text = "Text: x\nLasting: nil\n" + "".join("\t" * n + "a:\n" for n in range(5000))
        _, errors = read(text)
        self.assertTrue(errors)

    def test_keys(self):
        for line, expected in [
            ("a: b", ("a", "b")),
            ("a:b: c", ("a:b", "c")),
            ("a:b:", ("a:b", "")),
            ("a: b: c", ("a", "b: c")),
            ("a:", ("a", "")),
            ("a: ", ("a", "")),
            ("a:  ", ("a", " ")),
            ("@example.org:", ("@example.org", "")),
            ('"a: b"@example.org: nil', ('"a: b"@example.org', "nil")),
            ('"a\\": b"@example.org:', ('"a\\": b"@example.org', "")),
            ('"open: b', ('"open', "b")),
            ("a", None),
            (":", None),
            (": x", None),
            ("a:b", None),
        ]:
            self.assertEqual(split_key(line), expected, line)


class DurationTests(SynchronousTestCase):
    def test_forms(self):
        for text, seconds, form in [
            ("72h0m0s", 259200, "72h0m0s"),
            ("72h", 259200, "72h0m0s"),
            ("15s", 15, "15s"),
            ("1h30m", 5400, "1h30m0s"),
            ("90s", 90, "1m30s"),
            ("1.5h", 5400, "1h30m0s"),
            ("100ms", 0.1, "100ms"),
            ("1.5s", 1.5, "1.5s"),
            ("10us", 0.00001, "10µs"),
            ("10µs", 0.00001, "10µs"),
            ("1ns", 1e-9, "1ns"),
            ("-15s", -15, "-15s"),
            ("+15s", 15, "15s"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            (".5s", 0.5, "500ms"),
            ("1.s", 1, "1s"),
        ]:
            value = parse_duration(text)
            self.assertEqual(value.seconds, seconds, text)
            self.assertEqual(str(value), form, text)

    def test_bad(self):
        for text in ["", "5", "s", "1x", "1 s", "1h-5m", ".s", "-", "1e3s", "3000000h", "٣s"]:
            self.assertRaises(DurationError, parse_duration, text)

    @given(st.integers(-(1 << 63), (1 << 63) - 1))
    def test_parse_reverses_format(self, value):
        self.assertEqual(parse_duration(str(Duration(value))), value)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r"), max_size=12)
keys = st.one_of(
    st.from_regex(r"[a-z0-9.+-]{1,8}@[a-z]{1,5}\.org", fullmatch=True),
    st.from_regex(r'"[a-z: ]{1,8}"@[a-z]{1,5}', fullmatch=True),
    st.text(
        st.characters(codec="utf-8", exclude_characters='\n\0\r #\t"'),
        min_size=1,
        max_size=8,
    ),
)
inners = st.builds(Inner, name=texts, note=texts)
samples = st.builds(
    Sample,
    text=texts,
    flag=st.booleans(),
    number=st.integers(-(1 << 63), (1 << 63) - 1),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    period=st.integers(-(1 << 63), (1 << 63) - 1).map(Duration),
    maybe=st.none() | st.booleans(),
    words=st.lists(texts, max_size=4).map(tuple),
    table=st.dictionaries(keys, texts, max_size=3),
    inner=inners,
    pointer=st.none() | inners,
    loose=st.none() | st.builds(Loose, on=st.booleans()),
    items=st.lists(inners, max_size=4).map(tuple),
    named=st.dictionaries(keys, inners, max_size=3),
    lasting=st.dictionaries(keys, st.builds(Loose, on=st.booleans()), max_size=3),
)


class WriteTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(samples)
    def test_reading_reverses_writing(self, value):
        text = document.write(value)
        self.assertEqual(good(self, text).value, value)

    @settings(max_examples=150, deadline=None)
    @given(samples, samples)
    def test_an_edited_document_reads_as_the_new_value(self, old, new):
        doc = good(self, document.write(old))
        edited = doc.edited(new)
        self.assertEqual(good(self, edited.text).value, new)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "Text: x",
                    "\t- a",
                    "# c",
                    "",
                    "\t\t# d",
                    "Words:",
                    "\t-",
                    "\t\tName: x",
                    "Items:",
                    "Lasting: nil",
                    "  bad",
                ]
            )
        )
    )
    def test_text_survives_reading(self, parts):
        text = "".join(part + "\n" for part in parts if part != "  bad")
        errors = []
        tree = parse_tree(text, errors)
        if not errors:
            self.assertEqual(format_tree(tree), text)

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=200))
    def test_hostile_text_gives_errors_only(self, text):
        doc, _ = read(text)
        self.assertIsInstance(doc.value, Sample)

    def test_what_the_format_cannot_hold_is_refused(self):
        for value in [
            Sample(text="a\nb"),
            Sample(text="a\r"),
            Sample(text="\ud800"),
            Sample(words=("a\nb",)),
            Sample(table={"a: b": "c"}),
            Sample(table={"": "c"}),
            Sample(table={"#a": "c"}),
            Sample(table={" a": "c"}),
            Sample(ratio=float("nan")),
        ]:
            self.assertRaises(SconfError, document.write, value)

    def test_numbers_keep_their_value(self):
        text = document.write(Sample(text="", ratio=0.1234567891))
        self.assertIn("Ratio: 0.1234567891\n", text)


COMMENTED = """\
# head

# about text
Text: x
# two words
Words:
\t# the first
\t- one
\t# the second
\t- two
\t# end of words
Number: 007

# a table
Table:
\t# ay
\ta: 1
\tc: 3

# unrelated

# about lasting
Lasting:
\tb: nil
# foot
"""


class EditTests(SynchronousTestCase):
    def edit(self, **values):
        doc = good(self, COMMENTED)
        new = dataclasses.replace(doc.value, **values)
        edited = doc.edited(new)
        self.assertEqual(good(self, edited.text).value, new)
        return edited.text

    def test_nothing_changes_without_a_change(self):
        self.assertEqual(self.edit(), COMMENTED)

    def test_one_value_changes_one_line(self):
        self.assertEqual(self.edit(text="y"), COMMENTED.replace("Text: x", "Text: y"))
        self.assertEqual(self.edit(number=8), COMMENTED.replace("007", "8"))

    def test_list_items_keep_their_comments(self):
        self.assertEqual(
            self.edit(words=("zero", "one", "two")),
            COMMENTED.replace("\t# the first", "\t- zero\n\t# the first"),
        )
        self.assertEqual(
            self.edit(words=("one",)), COMMENTED.replace("\t# the second\n\t- two\n", "")
        )

    def test_map_entries_stay_sorted(self):
        self.assertEqual(
            self.edit(table={"a": "1", "c": "3", "b": "2"}),
            COMMENTED.replace("\tc: 3", "\tb: 2\n\tc: 3"),
        )

    def test_new_fields_come_in_the_documented_order(self):
        self.assertEqual(
            self.edit(flag=True), COMMENTED.replace("# two words", "Flag: true\n# two words")
        )

    def test_removed_fields_take_their_comment_along_but_no_others(self):
        text = self.edit(words=(), number=0)
        self.assertNotIn("words", text)
        self.assertNotIn("the first", text)
        self.assertIn("# about text\nText: x\n", text)
        text = self.edit(table={})
        self.assertNotIn("ay", text)
        self.assertIn("# unrelated\n\n# about lasting\nLasting:", text)

    def test_comments_of_a_removed_last_field_are_kept_above_a_blank_line(self):
        doc = good(self, "Text: x\nLasting: nil\n# keep\n\n# gone\nMaybe: true\n# foot\n")
        text = doc.edited(dataclasses.replace(doc.value, maybe=None)).text
        self.assertEqual(text, "Text: x\nLasting: nil\n# keep\n\n# foot\n")

    def test_sections_are_edited_inside(self):
        text = "Text: x\nPointer:\n\t# about name\n\tName: a\n\tNote: b\nLasting: nil\n"
        doc = good(self, text)
        new = dataclasses.replace(doc.value, pointer=Inner(name="c", note="b"))
        self.assertEqual(doc.edited(new).text, text.replace("Name: a", "Name: c"))

    def test_line_numbers(self):
        doc = good(self, COMMENTED)
        self.assertEqual(doc.line_of(["Words", 1]), 10)
        self.assertEqual(doc.line_of(["Table", "c"]), 18)
        self.assertEqual(doc.line_of(["Table", "absent"]), 15)
        self.assertEqual(doc.line_of(["Absent"]), 0)
