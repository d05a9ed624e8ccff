"""What every registered part must do, ours and a plug-in's. Our tests and `cnnbench check-plugin` run these checks."""
