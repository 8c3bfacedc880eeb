"""The IMAP server: IMAP4rev2 (RFC 9051) and IMAP4rev1 (RFC 3501) with many extensions.

`server` holds the connection, `lexer` and `parser` turn bytes into commands, and there is a
module for each family of commands, which `registry` collects.
"""
