"""Text for training: reading, tokenising, blocks on disk, masking."""
