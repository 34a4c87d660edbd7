"""A generated world to learn, and a tiny model to learn it."""
