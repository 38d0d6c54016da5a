"""Multi-objective neural architecture search over SuperShaper supernets."""

__version__ = "0.1.0"
