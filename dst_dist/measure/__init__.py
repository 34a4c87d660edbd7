"""Metrics from readings and timelines; knows neither models nor files."""
