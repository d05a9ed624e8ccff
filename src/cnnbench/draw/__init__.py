"""A page that evaluates a trained network in the browser."""
