"""Every figure and table of the paper, made of any supernet: one module a chapter."""
