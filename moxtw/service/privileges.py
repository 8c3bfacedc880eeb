"""From root to the service user: the order in which a mail server gives up its rights."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from moxtw.log import Logger

_log = Logger("service")


class PrivilegeError(Exception):
    """The configured user does not exist, or the change to it is not possible."""


@dataclass(frozen=True, slots=True)
class User:
    """Who the server runs as."""

    uid: int
    gid: int
    name: str


def find_user(name: str) -> User:
    """A user by name or number. Raises PrivilegeError for an unknown name."""
    if name.isdigit():
        uid = int(name)
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return User(uid, uid, name)
        return User(uid, entry.pw_gid, entry.pw_name)
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeError(
            f"user {name!r} does not exist: make it (useradd --system --user-group {name}), "
            "or set User in mox.conf"
        ) from None
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def fix_permissions(config: Path, data: Path, user: User) -> None:
    """Give configuration and data to the service user; needs root.

    Folders get 02750, files 0640, and only when the folder at the top is not right yet, so
    that large data directories do not delay each start. Raises OSError.
    """
    for top in (config, data):
        top.mkdir(mode=0o750, parents=True, exist_ok=True)
        state = top.stat()
        if (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (user.uid, 0, 0o2750):
            continue
        _log.info("fixing permissions", path=os.path.normpath(top), user=user.name)
        # Through descriptors that follow no links: whoever may write here now could otherwise
        # have root give away any other file.
        for _folder, _folders, files, fd in os.fwalk(top, topdown=False):
            for name in files:
                _give(name, fd, user)
            os.fchown(fd, user.uid, 0)
            os.fchmod(fd, 0o2750)


def _give(name: str, folder: int, user: User) -> None:
    """Give a file in an open folder to the user; other things than files are left alone."""
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=folder)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, user.uid, 0)
            os.fchmod(fd, 0o640)
    finally:
        os.close(fd)


def check_access(user: User, config: Path, domains: Path, data: Path) -> None:
    """See that the service user, whom we have become, can do what a server has to.

    Raises PrivilegeError with what to do, in place of failures later on.
    """
    program = Path(__file__).resolve().parent.parent
    for path, mode, what in (
        (program, os.R_OK | os.X_OK, "read the program"),
        (Path(sys.prefix), os.R_OK | os.X_OK, "read the program"),
        (Path(sys.base_prefix), os.R_OK | os.X_OK, "read Python"),
        (config, os.X_OK, "enter the configuration directory"),
        (domains, os.R_OK, "read"),
        (data, os.R_OK | os.W_OK | os.X_OK, "write to the data directory"),
    ):
        if os.access(path, mode):
            continue
        place = Path(os.path.normpath(path))
        hint = next(
            (
                f": it may not enter {parent}"
                for parent in reversed(place.parents)
                if not os.access(parent, os.X_OK)
            ),
            "",
        )
        raise PrivilegeError(f"user {user.name} cannot {what} {place}{hint}")


def drop(user: User) -> None:
    """Become the service user for good. Does nothing unless running as root."""
    if os.geteuid() != 0 or user.uid == 0:
        return
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as exc:
        raise PrivilegeError(f"can not become user {user.name}: {exc}") from exc
    if os.geteuid() == 0 or os.getuid() == 0:
        raise PrivilegeError("still root after the change of user")
    _log.info("running as service user", user=user.name, uid=user.uid)
