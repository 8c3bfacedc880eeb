"""Making the schema, and bringing that of an older version up to date.

A new database is made as `moxtw.store.schema` says. For each version there is a step from the
one before; steps run in order, each in a transaction of its own with the new version number,
so that one that is interrupted begins again. They change tables only and are quick: what has
to be computed for rows that are there is done while the server runs (`Store.add_chore`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from moxtw.log import Logger
from moxtw.store import (
    schema,
    schema_annotations,
    schema_audit,
    schema_copies,
    schema_history,
    schema_hooks,
    schema_imports,
    schema_junk,
    schema_keys,
    schema_queue,
    schema_reports,
    schema_requests,
    schema_tlspolicy,
)
from moxtw.store.errors import SchemaTooNew, StoreError

if TYPE_CHECKING:
    from moxtw.store.backend import Backend

_log = Logger("store")


class Upgrade:
    """What a step does to the tables. What is there already is left as it is.

    A table that a step adds is made in its newest form, so that steps behind it find columns
    that they would add.
    """

    def __init__(self, backend: Backend, execute: Callable[[str], Any]) -> None:
        self.dialect = backend.dialect.name
        self._dialect = backend.dialect
        self._backend = backend
        self.execute = execute

    def columns(self, table: str) -> set[str]:
        """The names of the columns of a table, none if there is no such table."""
        if self.dialect == "sqlite":
            return {row[1] for row in self.execute(f"PRAGMA table_info({table})").fetchall()}
        found = self.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema ="
            f" current_schema() AND table_name = '{table}'"
        )
        return {row[0] for row in found.fetchall()}

    def add_table(self, table: sa.Table) -> None:
        """Make a table with its indexes."""
        self._run(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            self.add_index(index)

    def add_column(self, column: sa.Column[Any]) -> None:
        """Add a column, which must be nullable or have a default for rows that are there."""
        table = column.table.name
        if column.name in self.columns(table):
            return
        compiler: Any = self._dialect.ddl_compiler
        spec = compiler(self._dialect, None).get_column_specification(column)
        self.execute(f"ALTER TABLE {table} ADD COLUMN {spec}")

    def drop_column(self, table: str, name: str) -> None:
        """Remove a column that nothing uses any more."""
        if name in self.columns(table):
            self.execute(f"ALTER TABLE {table} DROP COLUMN {name}")

    def add_index(self, index: sa.Index) -> None:
        """Make an index."""
        self._run(CreateIndex(index, if_not_exists=True))

    def _run(self, clause: Any) -> None:
        self.execute(str(clause.compile(dialect=self._dialect)))


def _history(up: Upgrade) -> None:
    """What is known of senders."""
    up.add_table(schema_history.history_due)
    up.add_table(schema_history.history)
    up.add_table(schema_history.history_dkim)
    for statement in schema_history.triggers(up.dialect):
        up.execute(statement)
    up.execute(
        "INSERT INTO history_due (message_id) SELECT id FROM messages"
        " WHERE expunged = 0 AND (flags & 48) IN (16, 32)"
    )


def _notifications(up: Upgrade) -> None:
    """What senders want to be told of queued messages."""
    up.add_column(schema_queue.queue.c.dsn)
    up.add_column(schema_queue.queue_retired.c.dsn)


def _objects(up: Upgrade) -> None:
    """Which messages are copies of which; annotations."""
    up.add_column(schema.message_meta.c.email_id)
    for index in schema.message_meta.indexes:
        if index.name == "message_meta_email_id":
            up.add_index(index)
    up.add_table(schema_annotations.annotation_table)


def _subject_keys(up: Upgrade) -> None:
    """Keys of tokens for subjects."""
    up.add_table(schema.subject_keys)


def _sort_keys(up: Upgrade) -> None:
    """What messages are sorted and threaded by."""
    up.add_table(schema_keys.content_keys)
    up.add_table(schema_keys.keys_due)
    up.execute(
        "INSERT INTO keys_due (content_id) SELECT id FROM contents"
        " WHERE NOT EXISTS (SELECT 1 FROM content_keys WHERE content_id = contents.id)"
        " AND NOT EXISTS (SELECT 1 FROM keys_due WHERE content_id = contents.id)"
    )


def _tls_policies(up: Upgrade) -> None:
    """What other domains say of TLS, and how it went."""
    up.add_table(schema_tlspolicy.mtasts_policies)
    up.add_table(schema_tlspolicy.tls_results)


def _junk(up: Upgrade) -> None:
    """The junk filter."""
    up.add_column(schema.messages.c.trained)
    up.drop_column(schema.message_meta.name, "trained_junk")
    up.add_table(schema_junk.junk_filters)
    up.add_column(schema_junk.junk_filters.c.version)
    up.add_table(schema_junk.junk_words)
    up.add_index(schema_junk.untrained)


def _hooks(up: Upgrade) -> None:
    """Webhooks; which retired message a notification is about."""
    up.add_table(schema_hooks.hooks)
    up.add_table(schema_hooks.hooks_retired)
    for index in schema_queue.queue_retired.indexes:
        if index.name == "queue_retired_message_id":
            up.add_index(index)


def _reports(up: Upgrade) -> None:
    """Reports received, and what is to be reported."""
    for table in (
        schema_reports.dmarc_reports,
        schema_reports.dmarc_evaluations,
        schema_reports.tls_reports,
        schema_reports.report_suppressions,
    ):
        up.add_table(table)


def _queue_lists(up: Upgrade) -> None:
    """Lists of the queue through indexes."""
    for table in (schema_queue.queue, schema_queue.queue_retired):
        for index in table.indexes:
            up.add_index(index)
    # Others have taken their places.
    for name in ("queue_account", "queue_due", "queue_next_attempt"):
        up.execute(f"DROP INDEX IF EXISTS {name}")
    up.execute("DROP INDEX IF EXISTS queue_retired_last_activity")


def _hook_lists(up: Upgrade) -> None:
    """Lists of webhooks through indexes."""
    for table in (schema_hooks.hooks, schema_hooks.hooks_retired):
        for index in table.indexes:
            up.add_index(index)
    # Others have taken its place.
    up.execute("DROP INDEX IF EXISTS hooks_account")


def _sent_requests(up: Upgrade) -> None:
    """Requests that clients may repeat."""
    up.add_table(schema_requests.sent_requests)


def _imports(up: Upgrade) -> None:
    """Imports that can go on after an interruption."""
    up.add_table(schema_imports.imports)
    up.add_table(schema_imports.import_ranges)


def _flag_indexes(up: Upgrade) -> None:
    """Indexes of unseen and of deleted messages."""
    for index in schema.messages.indexes:
        if index.name in ("messages_unseen", "messages_deleted"):
            up.add_index(index)


def _copies(up: Upgrade) -> None:
    """What to take back of copies that were interrupted."""
    up.add_table(schema_copies.copy_ranges)


def _audit(up: Upgrade) -> None:
    """The audit log."""
    up.add_table(schema_audit.audit_log)


# What to do for each version. Version 2 is not released yet: what a change of the tables needs
# goes in there.
STEPS: Final[dict[int, Sequence[Callable[[Upgrade], None]]]] = {
    2: (
        _history,
        _notifications,
        _objects,
        _subject_keys,
        _sort_keys,
        _tls_policies,
        _junk,
        _hooks,
        _sent_requests,
        _reports,
        _queue_lists,
        _hook_lists,
        _imports,
        _flag_indexes,
        _copies,
        _audit,
    ),
}


def prepare(backend: Backend) -> None:
    """Make the schema, or upgrade it. Raises StoreError, SchemaTooNew.

    Blocks; to be called before anything else uses the database.
    """
    made = sa.inspect(backend.engine).has_table("meta")
    backend.engine.dispose()
    connection = backend.connect(readonly=False)
    try:
        if made:
            _upgrade(backend, connection)
        else:
            _make(backend, connection)
    finally:
        connection.close()


def _make(backend: Backend, connection: Any) -> None:
    """Make a new database, whole or not at all."""
    execute = connection.cursor().execute

    def run(clause: Any, *args: Any) -> None:
        execute(str(clause.compile(dialect=backend.dialect)))

    execute(backend.begin_write)
    try:
        schema.metadata.create_all(
            sa.create_mock_engine(backend.engine.url, run), checkfirst=False
        )
        execute(f"INSERT INTO meta (key, value) VALUES ('schema_version', '{schema.VERSION}')")
        execute("INSERT INTO sequences (name, next) VALUES ('ids', 1)")
        execute("COMMIT")
    except BaseException:
        execute("ROLLBACK")
        raise


def _upgrade(backend: Backend, connection: Any) -> None:
    execute = connection.cursor().execute
    version = _version(execute)
    if version > schema.VERSION:
        raise SchemaTooNew(
            f"the database has schema version {version}, this program knows "
            f"{schema.VERSION}: use a newer version of the program"
        )
    while version < schema.VERSION:
        version += 1
        _log.info("upgrading the database", version=version)
        execute(backend.begin_write)
        try:
            for step in STEPS[version]:
                step(Upgrade(backend, execute))
            execute(f"UPDATE meta SET value = '{version}' WHERE key = 'schema_version'")
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise


def _version(execute: Callable[[str], Any]) -> int:
    row = execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        raise StoreError("the database has no schema version: making it was interrupted")
    return int(row[0])
