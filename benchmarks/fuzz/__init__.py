"""Fuzz the readers of files that others wrote; see ``__main__``."""
