"""Bridges to other people's tools; each file needs its tool and is imported by name."""
