"""The admin password: a bcrypt line in a file, read at each login."""

from __future__ import annotations

from pathlib import Path

from moxtw.admin.context import AdminContext, OperationError, log, user_error
from moxtw.config.live import write_file
from moxtw.sasl import password as passwords


def set_admin_password(path: Path, password: str) -> None:
    """Write the file. Blocks. Raises OperationError for a bad password, OSError."""
    try:
        prepared = passwords.prepare_new(password)
    except passwords.PasswordError as exc:
        raise user_error(str(exc)) from exc
    write_file(path, passwords.hash_password(prepared).encode() + b"\n")


def check_file(path: Path, password: str) -> bool:
    """Whether a password is that of the file. Blocks. Raises OSError, ValueError."""
    hashed = path.read_text("ascii").strip()
    if not hashed:
        raise ValueError("the admin password file is empty")
    return passwords.verify(password, hashed)


async def check(ctx: AdminContext, password: str) -> bool:
    """Whether a password is that of the admin. Raises OperationError if there is none."""
    path = ctx.config.static.admin_password_path
    if path is None:
        raise user_error("no AdminPasswordFile is configured in mox.conf, so there is no login")
    if len(password) > 1024:
        return False
    try:
        return bool(await ctx.store.run(check_file, path, password))
    except FileNotFoundError as exc:
        text = "there is no admin password yet: set it with moxtw setadminpassword"
        raise user_error(text) from exc
    except (OSError, ValueError) as exc:
        log.error("reading admin password file", path=str(path), err=exc)
        raise OperationError("server", "the admin password file can not be used") from exc
