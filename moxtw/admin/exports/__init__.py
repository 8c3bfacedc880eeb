"""Exporting messages as mbox files and maildirs, in archives or as they are."""
