"""Models: found, identified, loaded once and shared."""
