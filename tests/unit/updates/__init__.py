"""Tests of `moxtw.updates`."""
