"""The version of this program."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed

try:
    VERSION = _installed("moxtw")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "(devel)"
