"""Many runs with one command: their folder, the processes they run in, what is shown meanwhile.

Nothing here imports torch but `server`, which is a process of its own: what watches over the jobs cannot run out of
memory, crash in a kernel or hang with them.
"""
