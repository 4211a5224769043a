"""Clustering: topics of texts."""
