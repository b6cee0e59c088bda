"""Generated scenes, with every label."""
