"""Training: the loop and its parts; README.md has a table of the files."""
