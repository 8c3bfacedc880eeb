"""The control socket: what the command line asks of the running server.

The server greets with ``ctlv0``. A client sends the name of a command on a line, then its
parameters, a line each; the answer is ``ok`` or a line with what is wrong, and after ``ok``
what the command gives: lines, or a stream. A stream is chunks, each of a line with its length
in bytes, then the bytes, acknowledged with ``ok``; a length of 0 ends it. More commands may
follow on the same connection.

`server` is for the reactor, `client` is synchronous, for commands, and imports no Twisted.
"""

GREETING = "ctlv0"
MAX_LINE = 1 << 20
"""Longest line in bytes, either way."""
CHUNK = 1 << 16
"""Bytes in a chunk of a stream that we send."""
