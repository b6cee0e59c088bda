"""Datasets with depth or surface normals."""
