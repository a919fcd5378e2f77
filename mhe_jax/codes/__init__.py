"""Which class gets which code: from files, from a tree, from vectors of the classes by clustering."""
