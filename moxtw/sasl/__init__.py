"""SASL (RFC 4422): state machines of server and client over bytes, and what verifies passwords.

Nothing here reads or writes: protocols carry the messages, and look up what a machine asks for.
"""
