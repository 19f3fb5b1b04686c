"""Areas that people draw on slides: read from the files of their tools, rasterised, written back."""
