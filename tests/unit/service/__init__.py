"""Tests of moxtw, run by trial."""
