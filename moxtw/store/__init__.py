"""All that is kept: accounts, mailboxes, messages and their content, credentials, the queue."""
