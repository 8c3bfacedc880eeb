"""SMTP: the server for delivery and submission, and the client that the queue uses."""
