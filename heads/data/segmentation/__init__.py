"""Datasets with label maps."""
