from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import document
from moxtw.config.codec import ListCodec, MapCodec, OptionalCodec, StructCodec, struct_codec
from moxtw.config.describe import describe_dynamic, describe_static
from moxtw.config.dynamic import Dynamic
from moxtw.config.examples import DOMAINS_CONF, EXAMPLES, MOX_CONF
from moxtw.config.load import ConfigError
from moxtw.config.static import Static
from moxtw.config.testing import STATIC, dynamic_from, static_from

CONF = Path(__file__).parents[3] / "conf"
FILES = {"mox.conf": (Static, describe_static), "domains.conf": (Dynamic, describe_dynamic)}


def sections(codec, found):
    if isinstance(codec, OptionalCodec):
        sections(codec.inner, found)
    elif isinstance(codec, ListCodec | MapCodec):
        sections(codec.item, found)
    elif isinstance(codec, StructCodec) and codec.cls not in found:
        found[codec.cls] = codec
        for field in codec.fields:
            sections(field.codec, found)
    return found


class DescribeTests(SynchronousTestCase):
    def test_files_of_the_project_are_up_to_date(self):
        for name, (_, describe) in FILES.items():
            self.assertEqual((CONF / name).read_text(), describe(), f"{name} is out of date")

    def test_described_files_can_be_read(self):
        for cls, describe in FILES.values():
            errors = []
            document.read(describe(), cls, errors)
            self.assertEqual(errors, [])

    def test_every_field_is_shown_with_its_documentation(self):
        for cls, describe in FILES.values():
            text = describe()
            words = " ".join(line.strip("\t# ") for line in text.splitlines())
            for codec in sections(struct_codec(cls), {}).values():
                for field in codec.fields:
                    self.assertIn(f"\t{field.name}:" if cls is not codec.cls else field.name, text)
                    self.assertGreater(len(field.doc), 5)
                    self.assertTrue(field.doc.endswith("."), field.doc)
                    self.assertIn(" ".join(field.doc.split()), words)

    def test_optional_fields_are_marked(self):
        text = describe_static()
        self.assertIn("Default: mox. (optional)\nUser: mox\n", text)
        self.assertNotIn("(optional)\nDataDir", text)


class ExampleTests(SynchronousTestCase):
    def test_fragments_can_be_read(self):
        for example in EXAMPLES.values():
            cls = {MOX_CONF: Static, DOMAINS_CONF: Dynamic}[example.file]
            errors = []
            document.read(example.text, cls, errors)
            errors = [e for e in errors if not (e.line == 0 and "missing required" in e.message)]
            self.assertEqual(errors, [], example.name)
            self.assertIn(f"# Part of {example.file}:", example.printed())

    def test_fragments_pass_the_checks(self):
        transports = EXAMPLES["transports"].text
        static = static_from(STATIC + transports)
        for example in EXAMPLES.values():
            try:
                if example.file == MOX_CONF:
                    text = STATIC
                    if "Listeners:" in example.text:
                        # In place of the listeners there.
                        start, end = text.index("Listeners:"), text.index("Postmaster:")
                        text = text[:start] + text[end:]
                    static_from(text + example.text)
                else:
                    text = example.text
                    if "Domains:" not in text:
                        text = "Domains:\n\texample.org: nil\n" + text
                    if "Accounts:" not in text:
                        text += (
                            "Accounts:\n\tme:\n\t\tDomain: example.org\n\t\tDestinations:\n"
                            "\t\t\talice@example.org: nil\n\t\t\tbob@example.org: nil\n"
                        )
                    dynamic_from(text, static)
            except ConfigError as exc:
                self.fail(f"{example.name}: {exc}")
