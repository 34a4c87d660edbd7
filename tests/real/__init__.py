"""Tests with real weights: a pretrained text model with a small random tower."""
