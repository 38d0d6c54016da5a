"""Training: the loop, its rules, gradients and checkpoints."""
