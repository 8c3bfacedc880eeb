"""What mail looks like: names, addresses, messages. No input or output here."""
