"""Generated scenes with all labels."""
