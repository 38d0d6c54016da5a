"""Searches in one call: one, one on little first, one for each limit."""
