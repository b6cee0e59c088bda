"""Data with depth or surface normals."""
