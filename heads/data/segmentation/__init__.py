"""Data with label maps."""
