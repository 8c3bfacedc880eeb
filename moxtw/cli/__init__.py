"""The command line: ``moxtw <command>``."""
