"""One run, from its config to its finished folder; then evaluated, asked and resumed."""
