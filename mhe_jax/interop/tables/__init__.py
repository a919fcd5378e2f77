"""Tables that pair other systems' names with ours, as data: no code for a layer."""
