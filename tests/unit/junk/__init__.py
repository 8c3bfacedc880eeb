"""The junk filter."""
