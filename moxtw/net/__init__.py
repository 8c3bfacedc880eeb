"""What lies between sockets and protocols: TLS, PROXY, listening, connection ids, deadlines.

- ``tls``: server side TLS, and what a TLS connection tells about itself
- ``tlsclient``: client side TLS, verified or opportunistic
- ``certs``: keys and certificates
- ``cid``: connection ids, and their encrypted form for outsiders
- ``slow``, ``deadline``: slow mode for suspicious clients; a watchdog over stalled writes
- ``listen``: listening sockets and the PROXY protocol
"""
