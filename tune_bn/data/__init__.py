"""Data sets: sources, splits, cache, augmentation, and images on a device."""
