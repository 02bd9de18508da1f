"""Scripted failures, recorded and judged."""
