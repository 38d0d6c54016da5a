"""Encoders of the BERT type: a checkpoint as a supernet, sliced by layer."""
