"""Commands of supernets."""
