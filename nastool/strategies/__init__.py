"""Strategies: how the next architectures are chosen."""
