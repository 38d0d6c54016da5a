"""Held-out perplexity of many shapes of one supernet."""
