"""Checks of a domain: whether DNS, TLS and policies of others' view fit the configuration."""
