"""Outgoing messages: submission, the queue with its scheduler, delivery, notifications."""
