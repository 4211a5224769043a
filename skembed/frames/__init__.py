"""Embeddings in tables: one file for each kind of table."""
