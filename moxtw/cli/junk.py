"""``moxtw junk …`` and ``moxtw retrain``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.maintenance import stream
from moxtw.cli.output import clean

if TYPE_CHECKING:
    from moxtw.config.accounts import JunkParams
    from moxtw.junk.filefilter import FileFilter
    from moxtw.junk.score import Classification

_PROGRESS = 1000


def retrain(invocation: Invocation) -> None:
    """``moxtw retrain``."""
    name = invocation.args[0] if invocation.args else ""
    for line in stream(invocation, "retrain", name):
        invocation.print(line)
        invocation.stdout.flush()


# -- Flags ------------------------------------------------------------------------------------


def _share(invocation: Invocation, name: str, default: float, most: float = 1.0) -> float:
    text = invocation.text(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise UsageError(f"flag -{name}: {text!r} must be a number from 0 to {most:g}")
    return value


def _count(invocation: Invocation, name: str, default: int) -> int:
    value = invocation.flags[name]
    if value is None:
        return default
    number = invocation.number(name)
    if number < 0:
        raise UsageError(f"flag -{name} must not be negative")
    return number


def _params(invocation: Invocation) -> JunkParams:
    from moxtw.config.accounts import JunkParams

    return JunkParams(
        onegrams=invocation.switch("one-grams"),
        twograms=invocation.flags["two-grams"] is not False,
        threegrams=invocation.switch("three-grams"),
        max_power=_share(invocation, "max-power", 0.05, 0.5),
        ignore_words=_share(invocation, "ignore-words", 0.1, 0.5),
        top_words=_count(invocation, "top-words", 10),
        rare_words=_count(invocation, "rare-words", 1),
    )


@contextmanager
def _filter(invocation: Invocation, *, create: bool) -> Iterator[FileFilter]:
    """The filter of the flags."""
    from moxtw.junk.filefilter import FileFilter, FilterError

    params = _params(invocation)
    path = Path(invocation.text("dbpath") or "filter.db")
    bloom = Path(invocation.text("bloompath") or "filter.bloom")
    try:
        found = FileFilter(params, path, bloom, create=create)
        try:
            yield found
        finally:
            found.close()
    except FilterError as exc:
        raise CommandError(str(exc)) from exc


def _files(directory: str) -> list[Path]:
    """The files of a directory, by name."""
    try:
        return sorted(path for path in Path(directory).iterdir() if path.is_file())
    except OSError as exc:
        raise CommandError(f"{directory}: {exc.strerror or exc}") from exc


# -- Training and testing ---------------------------------------------------------------------


class _Progress:
    """Tells on standard error, now and then, how far it is."""

    def __init__(self, invocation: Invocation, total: int) -> None:
        self._invocation = invocation
        self._total = total
        self._done = 0

    def step(self) -> None:
        """One more."""
        self._done += 1
        if self._done % _PROGRESS == 0:
            self._invocation.warn(f"{self._done} of {self._total} messages")


def _train(
    invocation: Invocation, filter: FileFilter, kinds: Iterable[tuple[list[Path], bool]]
) -> None:
    """Train with files, of which some are hams (True)."""
    work = list(kinds)
    progress = _Progress(invocation, sum(len(files) for files, _ in work))
    for files, ham in work:
        for path in files:
            try:
                words, _ = filter.words(path)
            except OSError as exc:
                invocation.warn(f"{clean(str(path))}: {exc.strerror or exc}")
                continue
            filter.train(words, ham=ham, skip_new=True)
            progress.step()
    filter.save()


def train(invocation: Invocation) -> None:
    """``moxtw junk train``."""
    hams, spams = _files(invocation.args[0]), _files(invocation.args[1])
    sent = _files(invocation.text("sent-dir")) if invocation.text("sent-dir") else []
    with _filter(invocation, create=True) as filter:
        begun = time.monotonic()
        _train(invocation, filter, ((hams, True), (sent, True), (spams, False)))
        invocation.print(
            f"trained in {time.monotonic() - begun:.1f} s, ham {len(hams)}, sent {len(sent)},"
            f" spam {len(spams)}; in the filter now: ham {filter.ham}, spam {filter.spam}"
        )


def check(invocation: Invocation) -> None:
    """``moxtw junk check``."""
    with _filter(invocation, create=False) as filter:
        path = Path(invocation.args[0])
        try:
            found = filter.classify(path)
        except OSError as exc:
            raise CommandError(f"{path}: {exc.strerror or exc}") from exc
        _debug(invocation, found)
        invocation.print(f"{found.probability:.6f}")


def _debug(invocation: Invocation, found: Classification) -> None:
    if not invocation.switch("debug"):
        return
    for kind, words in (("ham", found.ham), ("spam", found.spam)):
        for each in words:
            invocation.warn(f"{kind} {each.score:.4f} {clean(each.word)}")
    invocation.warn(f"words {found.words}, known {found.known}")


class _Score:
    """How many messages were judged rightly."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._threshold = _share(invocation, "spam-threshold", 0.95)
        # By kind (ham is True): right, wrong.
        self._counts = {True: [0, 0], False: [0, 0]}
        self.malformed = 0

    def judge(self, path: Path, ham: bool, classify: Callable[[], Classification]) -> None:
        """Judge a message, and name it if that went wrong."""
        try:
            found = classify()
        except OSError as exc:
            self._invocation.warn(f"{clean(str(path))}: {exc.strerror or exc}")
            self.malformed += 1
            return
        right = found.probability <= self._threshold if ham else found.probability > self._threshold
        self._counts[ham][0 if right else 1] += 1
        if not right:
            kind = "ham" if ham else "spam"
            self._invocation.print(f'{kind} "{clean(str(path))}": {found.probability:.4f}')
            _debug(self._invocation, found)

    def show(self) -> None:
        """Print how it went."""
        (ham_ok, ham_bad), (spam_ok, spam_bad) = self._counts[True], self._counts[False]
        show = self._invocation.print
        show(f"total ham, ok {ham_ok}, bad {ham_bad}")
        show(f"total spam, ok {spam_ok}, bad {spam_bad}")
        if self.malformed:
            show(f"total unreadable {self.malformed}")
        show(f"specificity (true negatives, hams identified): {_ratio(ham_ok, ham_bad)}")
        show(f"sensitivity (true positives, spams identified): {_ratio(spam_ok, spam_bad)}")
        show(f"accuracy: {_ratio(ham_ok + spam_ok, ham_bad + spam_bad)}")


def _ratio(good: int, bad: int) -> str:
    return f"{good / (good + bad):.6f}" if good + bad else "-"


def test(invocation: Invocation) -> None:
    """``moxtw junk test``."""
    hams, spams = _files(invocation.args[0]), _files(invocation.args[1])
    with _filter(invocation, create=False) as filter:
        _test(invocation, filter, hams, spams)


def _test(
    invocation: Invocation, filter: FileFilter, hams: list[Path], spams: list[Path]
) -> None:
    score = _Score(invocation)
    progress = _Progress(invocation, len(hams) + len(spams))
    for files, ham in ((hams, True), (spams, False)):
        for path in files:
            score.judge(path, ham, lambda p=path: filter.classify(p))  # type: ignore[misc]
            progress.step()
    score.show()


def analyze(invocation: Invocation) -> None:
    """``moxtw junk analyze``."""
    import random

    hams, spams = _files(invocation.args[0]), _files(invocation.args[1])
    sent = _files(invocation.text("sent-dir")) if invocation.text("sent-dir") else []
    ratio = _share(invocation, "train-ratio", 0.5)
    chance = random.Random(None if invocation.switch("seed") else 0)  # noqa: S311 - no secret
    chance.shuffle(hams)
    chance.shuffle(spams)
    some_hams, some_spams = int(ratio * len(hams)), int(ratio * len(spams))
    with _filter(invocation, create=True) as filter:
        _train(
            invocation,
            filter,
            ((hams[:some_hams], True), (sent, True), (spams[:some_spams], False)),
        )
        invocation.print(f"training done, ham {some_hams}, sent {len(sent)}, spam {some_spams}")
        _test(invocation, filter, hams[some_hams:], spams[some_spams:])


def play(invocation: Invocation) -> None:
    """``moxtw junk play``."""
    messages: list[tuple[int, Path, str]] = []
    bad = undated = 0
    counts = {"ham": 0, "sent": 0, "spam": 0}
    directories = {"ham": invocation.args[0], "spam": invocation.args[1]}
    if invocation.text("sent-dir"):
        directories["sent"] = invocation.text("sent-dir")
    for kind, directory in directories.items():
        for path in _files(directory):
            try:
                date = _date(path)
            except OSError as exc:
                invocation.warn(f"{clean(str(path))}: {exc.strerror or exc}")
                bad += 1
                continue
            if date is None:
                undated += 1
                continue
            messages.append((date, path, kind))
            counts[kind] += 1
    messages.sort()
    score = _Score(invocation)
    progress = _Progress(invocation, len(messages))
    with _filter(invocation, create=True) as filter:
        for _, path, kind in messages:
            try:
                words, malformed = filter.words(path)
            except OSError as exc:
                invocation.warn(f"{clean(str(path))}: {exc.strerror or exc}")
                bad += 1
                continue
            ham = kind != "spam"
            if kind != "sent":
                score.judge(
                    path,
                    ham,
                    lambda w=words, m=malformed: filter.classify_words(w, malformed=m),  # type: ignore[misc]
                )
            filter.train(words, ham=ham, skip_new=False)
            progress.step()
        filter.save()
    invocation.print(
        f"completed, ham {counts['ham']}, sent {counts['sent']}, spam {counts['spam']},"
        f" unreadable {bad}, without date {undated}"
    )
    score.show()


def _date(path: Path) -> int | None:
    """The Date of a message file, in microseconds. Raises OSError."""
    from moxtw.mail.header import parse_date, parse_headers

    with path.open("rb") as file:
        value = parse_headers(file.read(1 << 20)).get("date")
    found = parse_date(value) if value else None
    return None if found is None else found[0]
