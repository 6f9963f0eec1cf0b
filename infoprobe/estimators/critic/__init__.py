"""Neural lower bounds."""
