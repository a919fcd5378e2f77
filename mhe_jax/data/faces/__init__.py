"""Face recognition data: identities to train on, pairs to verify, and the file formats of both."""
