"""Tool use: JSON-schema function calls answered over several turns."""
