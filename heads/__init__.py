"""Tasks on top of dense features."""
