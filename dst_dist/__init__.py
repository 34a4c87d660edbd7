"""Fine-tune SmolVLM2 to follow a procedural video and keep its dialog state."""

__version__ = "0.1.0"
