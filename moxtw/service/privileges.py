"""From root to the service user: the order in which a mail server gives up its rights."""

from __future__ import annotations

import os
import pwd
import stat
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
    for top, uid, gid in ((config, user.uid, 0), (data, user.uid, 0)):
        top.mkdir(mode=0o750, parents=True, exist_ok=True)
        state = top.stat()
        if (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (uid, gid, 0o2750):
            continue
        _log.info("fixing permissions", path=str(top), user=user.name)
        for folder, _folders, files in os.walk(top):
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.islink(path) and stat.S_ISREG(os.lstat(path).st_mode):
                    os.chown(path, uid, gid)
                    os.chmod(path, 0o640)
            if folder != str(top):
                os.chown(folder, uid, gid)
                os.chmod(folder, 0o2750)
        os.chown(top, uid, gid)
        os.chmod(top, 0o2750)


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
