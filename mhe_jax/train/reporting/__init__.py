"""What a run, or a config before it runs, tells about itself."""
