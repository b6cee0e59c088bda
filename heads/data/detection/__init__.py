"""Datasets with boxes and instance masks."""
