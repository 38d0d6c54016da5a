"""Decoders of the Llama type: a checkpoint as a supernet, sliced by layer."""
