"""Channels: which are dead, and how they are removed for good."""
