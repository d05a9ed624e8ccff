"""Files of images and signals: found, decoded and kept."""
