"""Tests of moxtw.dns."""
