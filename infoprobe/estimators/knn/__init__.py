"""Estimates from nearest neighbours."""
