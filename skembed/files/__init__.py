"""Files of any size: texts in, vectors out, resumed where they stopped."""
