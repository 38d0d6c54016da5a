"""Comparisons: several strategies, several seeds, one problem and one budget."""

from nastool.comparison.comparison import Comparison, compare, load_comparison

__all__ = [
    "Comparison",
    "compare",
    "load_comparison",
]
