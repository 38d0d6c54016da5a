"""Latency on any device: measured in campaigns, guarded against noise, predicted for searches."""
