"""moxtw: a mail server on Twisted, for people who host their own mail."""
