"""Importing messages from mbox files and maildirs, also in archives."""
