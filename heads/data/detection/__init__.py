"""Data with boxes and instance masks."""
