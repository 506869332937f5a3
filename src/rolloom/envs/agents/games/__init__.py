"""Games in text: a grid of walls, doors and boxes, and an adventure of rooms, keys and containers."""
