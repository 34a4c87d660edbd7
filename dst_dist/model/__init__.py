"""SmolVLM2 with two decision heads, its losses, and how it is fine-tuned, loaded and saved."""
