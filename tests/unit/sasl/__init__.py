"""Tests of moxtw.sasl."""
