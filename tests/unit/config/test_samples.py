from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import document
from moxtw.config.duration import Duration
from moxtw.config.dynamic import Dynamic
from moxtw.config.load import ConfigError, load_dynamic, load_static
from moxtw.config.static import Static

DATA = Path(__file__).parent / "data"
NAMES = ["localserve", "quickstart", "quickstart-existing-webserver"]


class SampleTests(SynchronousTestCase):
    def test_samples_are_written_as_they_were_read(self):
        for name in NAMES:
            for file, cls in [("mox.conf", Static), ("domains.conf", Dynamic)]:
                text = (DATA / name / file).read_text()
                errors = []
                doc = document.read(text, cls, errors)
                self.assertEqual(errors, [])
                self.assertEqual(doc.text, text)
                self.assertEqual(document.write(doc.value), text)

    def load(self, name):
        static = load_static(DATA / name / "mox.conf", check_files=False)
        return static, load_dynamic(static.dynamic_path, static, check_files=False)

    def test_samples_pass_the_checks(self):
        for name in NAMES:
            static, dynamic = self.load(name)
            self.assertEqual((static.warnings, dynamic.warnings), ((), ()))

    def test_values_of_quickstart(self):
        static, dynamic = self.load("quickstart")
        public = static.listeners["public"]
        self.assertEqual(static.data_path, DATA / "quickstart" / "../data")
        self.assertEqual(public.tls.acme, "letsencrypt")
        self.assertEqual((public.smtp.effective_port, public.submissions.effective_port), (25, 465))
        self.assertEqual(public.effective_hostname.name, "mail.example.org")
        internal = static.listeners["internal"]
        self.assertEqual(internal.effective_hostname.name, "localhost")
        self.assertEqual(
            (internal.admin_http.effective_port, internal.admin_http.effective_path),
            (80, "/admin/"),
        )
        self.assertEqual(internal.metrics_http.effective_port, 8010)
        account = dynamic.accounts["you"]
        self.assertEqual(account.subject_pass.period, Duration.of(hours=12))
        self.assertEqual(account.junk_filter.params.top_words, 10)
        self.assertTrue(account.automatic_junk_flags.junk.search("spam/x"))
        domain = dynamic.domains["example.org"]
        self.assertEqual([name for name, _ in domain.dkim.sign_selectors], ["2026a"])
        self.assertEqual(domain.dkim.selectors["2026b"].expiration_seconds, 259200)
        self.assertEqual(domain.mtasts.effective_mx[0][1].name, "mail.example.org")

    def test_missing_key_files_are_all_told(self):
        with self.assertRaises(ConfigError) as raised:
            load_static(DATA / "quickstart-existing-webserver" / "mox.conf")
        self.assertEqual(len(raised.exception.errors), 6)
        self.assertRegex(
            raised.exception.errors[0],
            r"/mox.conf:50: Listeners.public.TLS.KeyCerts\[0\].CertFile: cannot read .*: "
            "No such file or directory",
        )
