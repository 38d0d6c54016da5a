"""Finite spaces sampled exactly, within a budget and without duplicates, till nothing is left."""

from .sampler import Budget, NastoolSampler

__all__ = ["Budget", "NastoolSampler"]
