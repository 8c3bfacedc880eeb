"""Replies on the wire."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.smtp.reply import format_reply


class ReplyTests(SynchronousTestCase):
    def test_single(self) -> None:
        self.assertEqual(format_reply(250, "2.1.0", "ok"), b"250 2.1.0 ok\r\n")
        self.assertEqual(format_reply(354, "", "go"), b"354 go\r\n")

    def test_connection_id_at_the_end(self) -> None:
        self.assertEqual(format_reply(550, "5.1.1", "no", "Xy-1"), b"550 5.1.1 no (Xy-1)\r\n")

    def test_several_lines(self) -> None:
        self.assertEqual(
            format_reply(554, "5.3.0", "a\nb", "c"), b"554-5.3.0 a\r\n554 5.3.0 b (c)\r\n"
        )

    def test_long_text_is_folded_at_a_space_after_column_400(self) -> None:
        text = " ".join(["x" * 99] * 11)
        got = format_reply(550, "5.1.1", text).split(b"\r\n")
        self.assertEqual(got.pop(), b"")
        self.assertEqual([line[:10] for line in got], [b"550-5.1.1 ", b"550-5.1.1 ", b"550 5.1.1 "])
        self.assertTrue(all(400 <= len(line) <= 510 for line in got[:-1]))
        self.assertEqual(b" ".join(line[10:] for line in got).decode(), text)

    @given(st.text(max_size=2000), st.sampled_from(["", "5.1.1"]))
    def test_no_line_is_too_long_or_cut_within_a_character(self, text: str, secode: str) -> None:
        text = text.replace("\r", "").replace("\n", "")
        lines = format_reply(550, secode, text).split(b"\r\n")
        self.assertEqual(lines.pop(), b"")
        for line in lines:
            self.assertLessEqual(len(line), 510)
            line.decode()
