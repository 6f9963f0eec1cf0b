"""How far to trust an estimate."""
