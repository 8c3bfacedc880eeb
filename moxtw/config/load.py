"""Reading mox.conf and domains.conf from disk, with all checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from moxtw.config import document
from moxtw.config.check import Report
from moxtw.config.check_dynamic import check_dynamic
from moxtw.config.check_static import check_static
from moxtw.config.document import Document, Step
from moxtw.config.dynamic import Dynamic
from moxtw.config.sconf import MAX_TEXT, SconfError
from moxtw.config.static import Static

T = TypeVar("T")

MAX_ERRORS: Final = 100
"""Errors that are told; more do not help."""

# Sections of mox.conf that are checked against domains.conf.
_STATIC_SECTIONS: Final = ("Postmaster", "HostTLSRPT")


class ConfigError(Exception):
    """A configuration that cannot be used; `errors` says why, a line each."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = list(errors)


def load_static(path: Path | str, *, check_files: bool = True) -> Static:
    """Read and check mox.conf. Raises ConfigError.

    check_files: also read keys and certificates; without it they stay unset.
    """
    path = Path(path).absolute()
    doc = _read(path, Static)
    report = Report()
    check_static(doc.value, path, report, check_files=check_files)
    _raise(report, path, doc)
    object.__setattr__(doc.value, "warnings", _lines(report.warnings, path, doc))
    return doc.value


def load_dynamic(path: Path | str, static: Static, *, check_files: bool = True) -> Dynamic:
    """Read and check domains.conf, for a mox.conf. Raises ConfigError."""
    return load_document(Path(path), static, check_files=check_files).value


def load_document(path: Path, static: Static, *, check_files: bool = True) -> Document[Dynamic]:
    """Like `load_dynamic`, with the text, for later edits."""
    doc = _read(path, Dynamic)
    report = Report()
    dynamic = check_dynamic(doc.value, static, report, check_files=check_files)
    _raise(report, path, doc, static)
    object.__setattr__(dynamic, "warnings", _lines(report.warnings, path, doc))
    return Document(doc.root, dynamic)


def check_edit(dynamic: Dynamic, static: Static, *, check_files: bool = True) -> Dynamic:
    """Check a configuration made by an edit; return it resolved. Raises ConfigError."""
    report = Report()
    result = check_dynamic(dynamic, static, report, check_files=check_files)
    if report.errors:
        raise ConfigError([f"{_place(path)}: {text}" for path, text in report.errors[:MAX_ERRORS]])
    return result


def _read(path: Path, cls: type[T]) -> Document[T]:
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_TEXT + 1)
    except OSError as exc:
        raise ConfigError([f"{path}: {exc.strerror or exc}"]) from exc
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError([f"{path}:{line}: not valid UTF-8"]) from exc
    errors: list[SconfError] = []
    doc = document.read(text, cls, errors)
    if errors:
        raise ConfigError([_located(path, e.line, e.message) for e in errors[:MAX_ERRORS]])
    return doc


def _raise(report: Report, path: Path, doc: Document[Any], static: Static | None = None) -> None:
    if report.errors:
        raise ConfigError(_lines(report.errors, path, doc, static)[:MAX_ERRORS])


def _lines(
    found: Sequence[tuple[tuple[Step, ...], str]],
    path: Path,
    doc: Document[Any],
    static: Static | None = None,
) -> tuple[str, ...]:
    lines: list[tuple[int, str]] = []
    for steps, text in found[: 10 * MAX_ERRORS]:
        if static is not None and steps and steps[0] in _STATIC_SECTIONS:
            lines.append((0, f"{static.path}: {_place(steps)}: {text}"))
            continue
        line = doc.line_of(steps)
        lines.append((line, _located(path, line, f"{_place(steps)}: {text}")))
    lines.sort(key=lambda item: item[0])
    return tuple(text for _, text in lines)


def _located(path: Path, line: int, text: str) -> str:
    return f"{path}:{line}: {text}" if line else f"{path}: {text}"


def _place(steps: Sequence[Step]) -> str:
    """A path as text: Accounts.me.Destinations[me@example.org].Rulesets[0]."""
    parts: list[str] = []
    for step in steps:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif "." in step or " " in step or not step:
            parts.append(f"[{step[:100]}]")
        else:
            parts.append(f".{step}" if parts else step)
    return "".join(parts)
