"""The web side: JSON APIs over Klein, sessions, listeners with host and path routing."""
