"""Embeddings from any trainer in, a measured and validated release out."""
