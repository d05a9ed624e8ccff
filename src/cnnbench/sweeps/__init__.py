"""Many runs with one command: their folder, their processes, their progress.

A `Supervisor` hands jobs to processes (`job_process`), which it gets from the `server`. Only these two kinds of process
import torch, so that the one that supervises jobs cannot run out of memory, crash in a kernel or hang with them.
"""
