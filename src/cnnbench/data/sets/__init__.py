"""Where images and signals come from: one file a source."""
