"""The process that everything runs in: its signals, what must not outlive it, what it says."""
