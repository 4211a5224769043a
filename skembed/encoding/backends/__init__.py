"""Backends: each runs a model, batch by batch, and returns one vector per text."""
