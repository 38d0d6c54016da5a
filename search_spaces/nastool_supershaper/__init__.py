"""SuperShaper: BERT with a hidden size of its own in every layer, as a search space."""
