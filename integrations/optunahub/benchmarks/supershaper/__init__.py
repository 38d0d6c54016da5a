"""SuperShaper: perplexity and parameters of 7^12 shapes of a BERT, with the proven true front."""

from .problem import Problem

__all__ = ["Problem"]
