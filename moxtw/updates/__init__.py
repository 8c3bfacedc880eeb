"""New versions of this program: where they are announced, and who is told."""
