"""Similarity: which texts are alike, from pairs of columns to searches and near-duplicates."""
