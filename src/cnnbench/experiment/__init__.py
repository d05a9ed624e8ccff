"""One run, from its config to its finished folder.

The way from `cnnbench train` to a step of training: `cli.train` calls `run.run_job`, which drives the generator
`run.start_job`. That builds the parts of the run (`build.py`) and lets `training.trainer.fit` train it, which yields a
`TrainingPass` for each epoch. `TrainingPass.run` calls a `Stepper` for each step; `group.run_group` trains the passes
of several runs together instead.
"""
