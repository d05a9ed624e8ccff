"""What is done with a finished run: measure, predict, explain, verify."""
