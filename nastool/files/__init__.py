"""Files: read as people's tools write them, replaced whole, and folders with an owner."""
