"""Backbones as lists of feature maps: SigLIP 2 and any other timm model."""
