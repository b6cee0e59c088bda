"""From pixels to cells and back: an image's geometry record, resampling, windows."""
