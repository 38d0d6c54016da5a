"""Code that exported folders carry along."""
