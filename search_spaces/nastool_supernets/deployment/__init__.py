"""From a shape of a supernet to a model that runs without any of this."""
