"""Data overlap (paper, section 5): near-duplicates between training and evaluation sets."""
