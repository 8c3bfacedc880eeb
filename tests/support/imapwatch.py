"""Somebody's IMAP session that looks all the time whether the server answers."""

from __future__ import annotations

import threading

from tests.support.imapload import IMAPLoad


class Watcher:
    """Says NOOP again and again. waits: seconds that each took."""

    def __init__(self, session: IMAPLoad, pause: float = 0.005) -> None:
        self._session = session
        self._pause = pause
        self._end = threading.Event()
        self.waits: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self.waits.append(self._session.command(b"NOOP").seconds)
            if self._end.wait(self._pause):
                return

    def stop(self) -> None:
        """Stop asking."""
        self._end.set()
        self._thread.join()
