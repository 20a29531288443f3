"""When a mask moves in training, one schedule a file: arithmetic on steps, no network."""
