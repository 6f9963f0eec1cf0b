"""What several processes have measured, as if one process had measured it."""
