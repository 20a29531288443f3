"""Masks, and the patterns of removal that make them."""
