"""The two public formats of clips, read as they are."""
