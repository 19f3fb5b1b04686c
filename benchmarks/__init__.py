"""How fast UGA is and what it needs, against other software and against itself; see README.md."""
