"""Answers whose form is checked: JSON schemas and verifiable instructions."""
