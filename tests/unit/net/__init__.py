"""Tests of moxtw.net."""
