"""Tests of moxtw.mail."""
