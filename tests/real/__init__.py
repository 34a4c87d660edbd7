"""What only real weights show: a pretrained text model behind a small random tower."""
