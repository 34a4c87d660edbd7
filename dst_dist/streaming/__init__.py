"""A trained model reads a video one frame at a time."""
