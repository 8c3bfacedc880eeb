"""Mail that arrives: the decision on it, and its delivery to accounts and aliases."""
