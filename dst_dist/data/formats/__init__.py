"""Readers of the two public clip formats."""
