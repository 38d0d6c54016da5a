"""The processes and the precision that work runs in."""
