"""Tables of one's own: rows of named columns, and the labels in them; of texts and of pictures alike."""
