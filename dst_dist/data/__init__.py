"""Turns files on disk into packed micro-batches; knows no model."""
