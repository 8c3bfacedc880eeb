"""Who sent this: DKIM and, as they come, the other checks of senders."""
