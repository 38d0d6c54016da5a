"""Commands of the objectives."""
