"""Where tables meet embeddings: one file for each kind of table."""
