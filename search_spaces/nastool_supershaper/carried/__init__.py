"""Code that exported models carry along: it imports nothing of nastool, and registers nothing."""
