"""The commands that measure a finished run, and the files they leave."""
