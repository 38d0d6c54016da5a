"""Checkpoints of transformers as supernets: layers that keep a part of their weights."""
