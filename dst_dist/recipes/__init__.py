"""Recipes that come with the package, and how a recipe is read."""
