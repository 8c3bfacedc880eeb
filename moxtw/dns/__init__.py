"""Names looked up in the DNS, with their DNSSEC status.

- ``resolver``: the interface that the rest of the program uses, its errors and helpers
- ``client``: the stub resolver that asks real servers
- ``fake``: a resolver over a dict of zone records, for tests and for trying things out
"""
