"""Requests to refuse and requests to help with."""
