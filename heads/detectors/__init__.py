"""Detectors by name; each is a head on the maps of a backbone."""
