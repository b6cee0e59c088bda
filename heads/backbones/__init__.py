"""Backbones as lists of maps: SigLIP 2 and any other timm model."""
