"""Reports to other domains about their mail and ours: of DMARC, and on how TLS went."""
