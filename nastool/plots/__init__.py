"""Figures: each file computes its data as a frozen dataclass, then draws it with plotly."""
