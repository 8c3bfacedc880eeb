"""Transactions, and the statements that jobs execute in them.

Statements are SQLAlchemy Core, compiled once per dialect; rows come raw from the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from moxtw.store import schema

if TYPE_CHECKING:
    from moxtw.store.content import Spooled
    from moxtw.store.db import Store


def _literal(element: Any, **_: Any) -> Any:
    """Numbers in a clause as part of its text.

    SQLite prepares a statement anew at each execution when a bound value could decide whether
    a partial index fits (``expunged = 0``): ten times the work.
    """
    if isinstance(element, sa.BindParameter) and type(element.value) is int:
        return sa.literal_column(str(element.value), element.type)
    return None


class Statement:
    """A SQLAlchemy statement with named parameters, compiled once for each dialect.

    others: by the name of a dialect, what says the same there.
    """

    __slots__ = ("_clause", "_compiled", "_others")

    def __init__(self, clause: sa.Executable, **others: sa.Executable) -> None:
        self._clause = clause
        self._others = others
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def compiled(
        self, dialect: sa.engine.Dialect
    ) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        """SQL text, parameter order (None: by name) and values bound in the clause."""
        found = self._compiled.get(dialect.name)
        if found is None:
            own = self._others.get(dialect.name, self._clause)
            clause: Any = visitors.replacement_traverse(cast("Any", own), {}, _literal)
            compiled = clause.compile(
                dialect=dialect, compile_kwargs={"render_postcompile": True}
            )
            order = tuple(compiled.positiontup) if compiled.positional else None
            found = (str(compiled), order, dict(compiled.params))
            self._compiled[dialect.name] = found
        return found


TAKE_IDS = Statement(
    schema.sequences.update()
    .where(schema.sequences.c.name == "ids")
    .values(next=schema.sequences.c.next + sa.bindparam("count"))
    .returning(schema.sequences.c.next)
)


class Tx:
    """A transaction in which jobs read and write.

    `now` is the time at which the job began, in microseconds since the epoch.
    """

    __slots__ = (
        "_dialect",
        "_execute",
        "_executemany",
        "changed",
        "erase",
        "hook_urls",
        "modseqs",
        "now",
        "queue_domains",
        "store",
        "stored",
        "unlink",
    )

    def __init__(self, store: Store, connection: Any, now: int) -> None:
        self.store = store
        self.now = now
        self._dialect = store.backend.dialect
        cursor = connection.cursor()
        self._execute = cursor.execute
        self._executemany = cursor.executemany
        # modseq taken by this job, per account: all of a job's changes share one.
        self.modseqs: dict[int, int] = {}
        # For after the commit: accounts with the modseq reached, queue to wake, files to
        # remove, accounts with expunged messages to erase.
        self.changed: dict[int, int] = {}
        # Recipient domains with queued messages that are due earlier than before; "" stands
        # for any.
        self.queue_domains: set[str] = set()
        # URLs with webhooks that are due earlier than before; "" stands for any.
        self.hook_urls: set[str] = set()
        self.unlink: list[str] = []
        self.erase: set[int] = set()
        # Contents that rows refer to, once they are committed.
        self.stored: list[Spooled] = []

    def cursor(self, statement: Statement, params: dict[str, Any]) -> Any:
        """Execute, and give the driver's cursor."""
        sql, order, bound = statement.compiled(self._dialect)
        if order is None:
            return self._execute(sql, {**bound, **params})
        if len(params) == len(order):
            return self._execute(sql, [params[name] for name in order])
        values = {**bound, **params}
        return self._execute(sql, [values[name] for name in order])

    def all(self, statement: Statement, **params: Any) -> list[tuple[Any, ...]]:
        """All rows."""
        rows: list[tuple[Any, ...]] = self.cursor(statement, params).fetchall()
        return rows

    def one(self, statement: Statement, **params: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        row: tuple[Any, ...] | None = self.cursor(statement, params).fetchone()
        return row

    def value(self, statement: Statement, **params: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.cursor(statement, params).fetchone()
        return None if row is None else row[0]

    def run(self, statement: Statement, **params: Any) -> int:
        """Execute, and say how many rows were changed."""
        count: int = self.cursor(statement, params).rowcount
        return count

    def many(self, statement: Statement, rows: Iterable[dict[str, Any]]) -> None:
        """Execute once for each set of parameters."""
        sql, order, bound = statement.compiled(self._dialect)
        if order is None:
            self._executemany(sql, [{**bound, **row} for row in rows])
        else:
            self._executemany(
                sql, [[row[name] if name in row else bound[name] for name in order] for row in rows]
            )

    def new_id(self) -> int:
        """An id for a message or a content that was never given before."""
        ids = self.store.ids
        if ids:
            return ids.pop()
        # The block is used up within one batch: then one by one, undone with the job.
        found: int = self.value(TAKE_IDS, count=1)
        return found - 1

    def new_ids(self, count: int) -> int:
        """The first of `count` consecutive ids that were never given before."""
        # Ids grow in the order of commits, which the text index relies on: none that were taken
        # ahead may come after these.
        self.store.ids.clear()
        found: int = self.value(TAKE_IDS, count=count)
        return found - count

    def raw(self, sql: str) -> Any:
        """Execute SQL text: for the maintenance of the database itself."""
        return self._execute(sql)


def ranges(uids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as inclusive ranges."""
    found: list[tuple[int, int]] = []
    start = last = -1
    for uid in uids:
        if uid != last + 1:
            if start >= 0:
                found.append((start, last))
            start = uid
        last = uid
    if start >= 0:
        found.append((start, last))
    return found
