"""From pixels to cells and back: an image's record, resampling, windows."""
