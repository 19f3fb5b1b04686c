"""Everything UGA writes: image pyramids, annotation packages, JSON records, the report and the manifest."""
