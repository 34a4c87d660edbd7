"""Metrics from readings and timelines, without models and files."""
