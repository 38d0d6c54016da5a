"""Exact search: the true optimum and the true front over a whole space, with a certificate."""
