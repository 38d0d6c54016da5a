"""Commands of the SuperShaper plugin."""
