"""Many runs: a grid's members, the processes they run in, and launchers."""
