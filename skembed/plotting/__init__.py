"""Plots of embeddings and of trainings in the style of scikit-learn's Displays, one per file.

matplotlib, plotly and umap are imported when they are used.
"""
