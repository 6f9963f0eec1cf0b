"""What maps of other libraries look like."""
