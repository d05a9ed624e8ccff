"""What is wrong with a dataset: images that occur twice, in two splits or with two labels, and unusual ones."""
