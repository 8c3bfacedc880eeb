"""How to reach other servers safely: MTA-STS, DANE and what TLS reports need."""
