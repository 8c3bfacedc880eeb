"""Commands of the junk filter."""

from __future__ import annotations

from moxtw.cli.command import BOOL, BOOL_VALUE, INT, TEXT, Command, Flag

_FLAGS = (
    Flag("one-grams", BOOL, "Use single words."),
    Flag("two-grams", BOOL_VALUE, "Use pairs of words, which is the default."),
    Flag("three-grams", BOOL, "Use groups of three words."),
    Flag("max-power", TEXT, "How far words stay away from 0 and 1, by default 0.05."),
    Flag("ignore-words", TEXT, "Ignore words nearer to 0.5 than this, by default 0.1."),
    Flag("top-words", INT, "Words of each kind that count, the strongest, by default 10."),
    Flag("rare-words", INT, "Words seen at most this often count less, by default 1."),
    Flag("spam-threshold", TEXT, "Probability above which a message is spam, by default 0.95."),
    Flag("train-ratio", TEXT, "Part of the messages to train with (analyze), by default 0.5."),
    Flag("seed", BOOL, "Shuffle in another way each time (analyze)."),
    Flag("sent-dir", TEXT, "Directory of sent messages, to train with as hams."),
    Flag("dbpath", TEXT, "The filter's database, by default filter.db."),
    Flag("bloompath", TEXT, "The filter's words that were seen, by default filter.bloom."),
    Flag("debug", BOOL, "Print the words that decided."),
)

JUNK_COMMANDS = (
    Command(
        "retrain",
        "[account]",
        "junk:retrain",
        """Train the junk filter of an account anew, or those of all accounts.

With all messages that are flagged as junk or not junk, by the running server. It is needed only
after a damage: changes of flags are learned by themselves, and when the settings ask for other
groups of words (Onegrams and so on), the filter is trained anew by itself. Until that is done,
the old filter is asked.""",
        (0, 1),
    ),
    Command(
        "junk train",
        "ham-directory spam-directory",
        "junk:train",
        """Train a filter in files of its own with messages in two directories.

For trying what the settings do; filters of accounts are not touched. Words are counted from
the second time on that they come.""",
        (2, 2),
        _FLAGS,
    ),
    Command(
        "junk test",
        "ham-directory spam-directory",
        "junk:test",
        """Test a filter that was trained, with messages in two directories.

Messages that are judged wrongly are named, and the ratios of right ones printed.""",
        (2, 2),
        _FLAGS,
    ),
    Command(
        "junk check",
        "message-file",
        "junk:check",
        "Print how likely a message is spam, from 0 to 1.",
        (1, 1),
        _FLAGS,
    ),
    Command(
        "junk analyze",
        "ham-directory spam-directory",
        "junk:analyze",
        """Train a filter with some messages of two directories, and test it with the others.

The messages are shuffled, in the same way each time unless -seed is given.""",
        (2, 2),
        _FLAGS,
    ),
    Command(
        "junk play",
        "ham-directory spam-directory",
        "junk:play",
        """Judge messages of two directories in the order of their dates, learning from each.

As if they came in now, each flagged rightly by its reader.""",
        (2, 2),
        _FLAGS,
    ),
)
