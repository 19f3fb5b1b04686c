"""Long-running mode: grand-challenge's invoke API."""
