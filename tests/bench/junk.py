"""The junk filter: how well it tells two kinds of messages apart, and how fast it is."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from moxtw.config.accounts import JunkParams
from moxtw.junk.classify import classify
from moxtw.junk.message import words_of
from moxtw.junk.score import ngram_bits
from moxtw.junk.trainer import Trainer
from moxtw.store import accounts, junkdb, mailboxes, messages
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.model import Flag, NewMessage
from tests.bench.report import Row, Table, show
from tests.support.store import now

TRAINED: Final = 2000
"""Messages to learn from, half of each kind."""

HELD_OUT: Final = 1000
"""Messages to judge, half of each kind."""

SHARED: Final = 10_000
OWN: Final = 5_000
"""Words that both kinds have, and words of each alone: two thirds of a vocabulary are shared."""

THRESHOLD: Final = 0.95
PARAMS: Final = JunkParams(
    onegrams=True, max_power=0.01, top_words=10, ignore_words=0.1, rare_words=2
)


@dataclass
class Kind:
    """A kind of messages: words, and sums of how often they come."""

    name: str
    words: list[str]
    sums: list[float]

    def message(self, chance: random.Random, number: int) -> bytes:
        """One message of 80 to 300 words."""
        words = chance.choices(self.words, cum_weights=self.sums, k=chance.randint(80, 300))
        lines = [" ".join(words[n : n + 10]) for n in range(6, len(words), 10)]
        subject = " ".join(words[:6])
        head = (
            f"From: <s{chance.randrange(10**6)}@d{chance.randrange(10**5)}.example>\r\n"
            f"To: <mjl@a.example>\r\nSubject: {subject}\r\n"
            f"Message-ID: <{number}@bench.example>\r\n\r\n"
        )
        return (head + "\r\n".join(lines) + "\r\n").encode()


def make_kinds(chance: random.Random, shared: int = SHARED, own: int = OWN) -> tuple[Kind, Kind]:
    """Ham and spam. Few words are frequent and most are rare, as in any language."""
    known: dict[str, None] = {}
    while len(known) < shared + 2 * own:
        known["".join(chance.choice("bdfgklmnprst") + chance.choice("aeiou") for _ in range(4))] = (
            None
        )
    words = list(known)
    kinds = []
    for name, start in (("ham", shared), ("spam", shared + own)):
        vocabulary = words[:shared] + words[start : start + own]
        chance.shuffle(vocabulary)
        weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
        kinds.append(Kind(name, vocabulary, list(accumulate(weights))))
    return kinds[0], kinds[1]


class Filter:
    """An account with its filter, in a store of its own."""

    def __init__(self, directory: str, params: JunkParams = PARAMS) -> None:
        self.clock = Clock()
        self.params = params
        self.store = Store(directory, self.clock, inline=True)
        self.store.open()
        self.store.startService()
        self.account = now(self.store.write(lambda tx: accounts.ensure(tx, "mjl")))
        self.inbox = now(
            self.store.read(lambda tx: mailboxes.named(tx, self.account.id, "Inbox"))
        )
        self.trainer = Trainer(self.store, lambda name: self.params, self.clock)

    def close(self) -> None:
        """Stop."""
        self.store.stopService()

    def spooled(self, data: bytes) -> Spooled:
        """A message as it arrives."""
        found: Spooled = now(self.store.contents.from_bytes(data))
        return found

    def add(self, batch: Sequence[tuple[bytes, Flag]]) -> None:
        """Add messages with a flag."""
        new = [NewMessage(self.spooled(data), flags=int(flag)) for data, flag in batch]

        def job(tx: Any) -> None:
            for each in new:
                messages.add(tx, self.account.id, self.inbox.id, each)

        now(self.store.write(job))

    def train(self) -> None:
        """Let the trainer learn all there is."""
        self.trainer.startService()
        while calls := self.clock.getDelayedCalls():
            self.clock.advance(max(0.0, min(c.getTime() for c in calls) - self.clock.seconds()))
        now(self.trainer.stopService())

    def score(self, content: Spooled) -> float:
        """How likely a message is junk."""
        asked = classify(self.store, self.account.id, self.params, content)
        return float(now(Deferred.fromCoroutine(asked)).probability)

    def counted(self) -> int:
        """Messages that were counted."""
        asked = now(self.store.read(lambda tx: junkdb.asked(tx, self.account.id)))
        return 0 if asked is None else asked.ham + asked.spam


def run(times: int, quick: bool) -> Table:
    """Measure."""
    scale = 10 if quick else 1
    trained, held_out = TRAINED // scale, HELD_OUT // scale
    table = Table(
        "junk",
        "Junk filter",
        "",
        f"Generated messages of two kinds, two thirds of whose vocabularies ({SHARED + OWN:,} "
        f"words each) are the same: trained with {trained:,}, then {held_out:,} others judged "
        f"at a threshold of {THRESHOLD}. Through the store as a server has it, one message "
        "after the other, without the trainer's pauses; a word counts once for each message "
        "that has it.",
    )
    results = [_measure(seed, trained, held_out) for seed in range(times)]
    missed, wrong, trained_rate, scored_rate = (
        sorted(column)[len(column) // 2] for column in zip(*results, strict=True)
    )
    goals = (None, None) if quick else (97.0, 0.5)
    table.add(Row("junk that is caught", "%", 100 - missed, limit=goals[0]))
    table.add(Row("other messages taken for junk", "%", wrong, more=False, limit=goals[1]))
    table.add(Row("words trained", "/s", trained_rate))
    table.add(Row("words scored", "/s", scored_rate))
    return table


def _measure(seed: int, trained: int, held_out: int) -> tuple[float, float, float, float]:
    """Percentages missed and wrongly caught; words trained and scored in a second."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    ham, spam = make_kinds(chance)
    learn = [
        (kind.message(chance, n), flag)
        for n in range(trained // 2)
        for kind, flag in ((ham, Flag.NOTJUNK), (spam, Flag.JUNK))
    ]
    hams = [ham.message(chance, trained + n) for n in range(held_out // 2)]
    spams = [spam.message(chance, trained + n) for n in range(held_out // 2)]
    ngrams = ngram_bits(PARAMS)

    def words(batch: Sequence[bytes]) -> int:
        return sum(len(words_of(data, ngrams).words) for data in batch)

    with tempfile.TemporaryDirectory() as directory:
        filter = Filter(directory)
        try:
            for start in range(0, len(learn), 100):
                filter.add(learn[start : start + 100])
            begun = time.perf_counter()
            filter.train()
            training = time.perf_counter() - begun
            if filter.counted() != trained:
                raise RuntimeError(f"{filter.counted()} messages counted instead of {trained}")
            arrived = [[filter.spooled(data) for data in batch] for batch in (hams, spams)]
            begun = time.perf_counter()
            scores = [[filter.score(content) for content in batch] for batch in arrived]
            scoring = time.perf_counter() - begun
        finally:
            filter.close()
    wrong = sum(score > THRESHOLD for score in scores[0])
    missed = sum(score <= THRESHOLD for score in scores[1])
    show(
        f"{len(learn) / training:,.0f} messages a second trained,"
        f" {held_out / scoring:,.0f} scored; {missed} of {len(spams)} missed,"
        f" {wrong} of {len(hams)} wrongly caught"
    )
    return (
        100 * missed / len(spams),
        100 * wrong / len(hams),
        words([data for data, _ in learn]) / training,
        words(hams + spams) / scoring,
    )
