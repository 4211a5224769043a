"""The cache: vectors that were computed once, in memory or on disk."""
