"""Classification: labels for texts."""
