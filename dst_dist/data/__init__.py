"""From files on disk to packed micro-batches; knows no model."""
