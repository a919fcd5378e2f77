"""Devices and processes: the mesh, what is laid out how on it, and how processes find, wait for and end each other."""
