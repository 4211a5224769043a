"""Pictures of embeddings and of their training, as scikit-learn's Displays; one a file.

matplotlib, plotly and umap are imported where something is drawn or computed with them.
"""
