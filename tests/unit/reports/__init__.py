"""Tests of `moxtw.reports`."""
