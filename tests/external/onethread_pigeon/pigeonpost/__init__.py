"""Pigeon Post for onethread."""
