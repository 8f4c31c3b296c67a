"""The network in one thread and in virtual time: a discrete-event world around the real core, and its disasters."""
