"""What `pip install .` takes along."""

from __future__ import annotations

import configparser
from pathlib import Path

from twisted.python.filepath import FilePath
from twisted.trial import unittest

ROOT = Path(__file__).resolve().parent.parent.parent

try:
    from setuptools import find_namespace_packages, find_packages
except ImportError:  # not part of Python, and not needed to run
    find_packages = None


class PackagingTests(unittest.TestCase):
    """The packages that setup.cfg names."""

    if find_packages is None:
        skip = "no setuptools"

    def setUp(self) -> None:
        if not (ROOT / "setup.cfg").exists():
            raise unittest.SkipTest("not run from a checkout")
        parser = configparser.ConfigParser()
        parser.read(ROOT / "setup.cfg")
        finders = {"find:": find_packages, "find_namespace:": find_namespace_packages}
        include = parser["options.packages.find"]["include"].split()
        self.packages = set(finders[parser["options"]["packages"]](str(ROOT), include=include))

    def test_every_folder_of_the_program_is_installed(self) -> None:
        folders = {path.parent for path in (ROOT / "moxtw").rglob("*.py")}
        names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
        self.assertEqual(self.packages - {"twisted.plugins"}, names)

    def test_twistd_finds_the_plugin_where_it_is_installed(self) -> None:
        self.assertIn("twisted.plugins", self.packages)
        self.assertTrue((ROOT / "twisted" / "plugins" / "moxtw_plugin.py").exists())

    def test_no_file_hides_those_of_twisted(self) -> None:
        # An __init__.py in these folders would take the place of Twisted's own.
        for folder in ("twisted", "twisted/plugins"):
            self.assertEqual(FilePath(str(ROOT / folder)).globChildren("__init__.py*"), [])
        self.assertNotIn("twisted", self.packages)
