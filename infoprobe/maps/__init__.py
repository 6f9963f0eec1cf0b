"""What invertible maps do to entropy, exactly."""
