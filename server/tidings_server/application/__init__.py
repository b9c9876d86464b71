"""What the server does, one verb per file: order, deadlines, fallbacks. Knows no wire and no machine."""
