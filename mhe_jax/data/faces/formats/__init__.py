"""Files that face recognition data is shared as."""
