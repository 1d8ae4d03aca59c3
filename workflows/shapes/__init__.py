"""A small world of drawn things: scenes, captions and exact masks, and a small CLIP trained on it."""
