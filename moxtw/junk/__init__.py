"""The junk filter: words, training and scores."""
