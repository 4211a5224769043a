"""Backends: what runs a model, batch by batch, and gives one vector a text."""
